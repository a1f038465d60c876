"""What two ranks recorded, one replays."""

import pytest
from run_files import metrics
from test_equal import STRATEGIES

GIVEN = ("objective=grpo", "iterations=2")


@pytest.mark.slow
def test_one_process_replays_what_two_ranks_recorded(train, tmp_path):
    train(*GIVEN, *STRATEGIES["ddp"], "record=all", f"run_dir={tmp_path / 'two'}")
    assert len(list((tmp_path / "two" / "rollouts").glob("*.parquet"))) == 4
    train(*GIVEN, "sampler=replay", f"sampler.run={tmp_path / 'two'}", f"run_dir={tmp_path / 'one'}")
    then, now = metrics(tmp_path / "two"), metrics(tmp_path / "one")
    for key in ("reward/mean", "response/length_mean", "loss", "grad_norm"):
        assert [line[key] for line in now] == pytest.approx([line[key] for line in then], abs=1e-5)
