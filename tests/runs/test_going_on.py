"""The commands that a run prints can be typed as they are."""

import shlex
from pathlib import Path

import pytest

from dsrl.config.compose import compose
from dsrl.runs.going_on import command_to_export, command_to_go_on


@pytest.mark.parametrize(
    ("called", "begins"),
    [
        ("train.py", "python train.py resume=last "),
        ("/x/dsrl/train.py", "python -m dsrl.train resume=last "),
        ("/usr/bin/dsrl-train", "dsrl-train resume=last "),
    ],
)
@pytest.mark.parametrize("folder", ["runs/mine", "runs/2026-11-30_16-22-47", "my runs/it's 50%, $x {a: b}=[1]", "5"])
def test_the_folder_is_the_same_after_shell_and_hydra(called, begins, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", [called])
    monkeypatch.chdir(tmp_path)
    command = command_to_go_on(Path(folder))
    assert command.startswith(begins)
    words = shlex.split(command.removeprefix(begins))
    (tmp_path / folder / "hf").mkdir(parents=True)
    assert compose(["resume=last", *words]).run_dir == Path(folder)


def test_in_python_it_is_a_call(monkeypatch):
    monkeypatch.setattr("sys.argv", ["notebook.py"])
    command = command_to_go_on(Path("runs/mine"))
    assert command == 'fit(compose(["resume=last", "run_dir=runs/mine"]))'
    assert command_to_go_on(Path('a "b"')) == """fit(compose(["resume=last", 'run_dir=\\'a "b"\\'']))"""


def test_export_is_called_as_the_run_was(monkeypatch):
    monkeypatch.setattr("sys.argv", ["dsrl-train"])
    assert command_to_export(Path("a b/x.ckpt"), Path("a b")) == "dsrl-export 'a b/x.ckpt' 'a b/hf'"
    monkeypatch.setattr("sys.argv", ["train.py"])
    assert command_to_export(Path("x.ckpt"), Path("a")) == "python -m dsrl.export x.ckpt a/hf"
