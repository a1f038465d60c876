"""A run of several ranks that fails saves its last finished iteration: one rank for all, or all together."""

from __future__ import annotations

from datetime import timedelta
from threading import Thread

import pytest
from checkpoint_contents import apart, contents
from test_equal import STRATEGIES
from torch.distributed import TCPStore

from dsrl.parallel.failing import WRITER, FailingRank

FOUR = ("iterations=4", "objective=grpo", "checkpoint.every=0", "+callbacks.fails._target_=site_parts.Fails")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "ranks", "saves"),
    [("ddp", "1", True), ("fsdp", "01", True), ("fsdp", "1", False)],
    ids=["one of ddp", "all of fsdp", "one of fsdp"],
)
def test_what_can_be_saved_is_as_it_would_have_been(strategy, ranks, saves, start, tmp_path):
    folder = tmp_path / "run"
    run = start(*FOUR, *STRATEGIES[strategy], f"run_dir={folder}", environment={"FAILS": ranks})
    _, errors = run.communicate(timeout=900)
    assert run.returncode != 0
    assert f"fails on {ranks}" in errors
    goes_on = f"`python train.py resume=last run_dir={folder}`"
    if not saves:
        assert f"there is no checkpoint yet: {goes_on} starts again from the beginning" in errors
        assert not [*folder.glob("checkpoints/*")]
        return
    assert f"saved after 2 of 4 iterations: {goes_on} goes on" in errors
    found = [*folder.glob("checkpoints/*.ckpt")]
    assert [path.name for path in found] == ["iteration1.ckpt"]
    assert [*apart(contents(found[0]), contents(folder / "expected.ckpt"))] == []


@pytest.fixture
def failing():
    """Three ranks of a run, as far as they fail."""
    store = TCPStore("localhost", 0, is_master=True, timeout=timedelta(seconds=5), wait_for_workers=False)
    return [FailingRank(store, rank, 3, patience=0.2) for rank in range(3)]


def test_one_rank_writes_the_first_unless_the_main_one_fails_too(failing):
    assert [failing[rank].is_writer() for rank in (2, 0, 1)] == [True, False, False]


def test_the_main_rank_is_waited_for(failing):
    other = Thread(target=failing[1].is_writer)
    other.start()
    assert failing[0].is_writer()
    other.join()
    assert failing[0].store.get(WRITER) == b"0"


def test_the_others_hear_what_came_of_it(failing):
    failing[2].is_writer()
    failing[2].tell("saved")
    assert failing[1].wait_for_writer() == "saved"


def test_all_have_failed_alike_or_none_says_so(failing):
    def error(line):
        try:
            raise ValueError if line else KeyError
        except LookupError as caught:
            return caught
        except ValueError as caught:
            return caught

    assert not failing[0].all_alike(error(0), 3)  # alone, as far as it knows
    assert [rank.all_alike(error(0), 3) for rank in failing] == [False] * 3  # and stays so
