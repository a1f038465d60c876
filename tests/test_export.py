"""The command `python -m dsrl.export`."""

import pytest

from dsrl.export import main


def test_what_the_user_can_mend_ends_with_one_message_and_code_2(tmp_path, capsys):
    (tmp_path / "run.ckpt").touch()
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "run.ckpt"), str(tmp_path / "out")])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'out'}: exists already; choose another folder\n"
