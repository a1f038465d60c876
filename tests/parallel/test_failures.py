"""A rank that dies or hangs ends the run: how fast, with which message, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

TIMEOUT = 8  # seconds that ranks wait for each other, once all have started
SIGN_FIRST, COLLECTIVE_FIRST = f"{TIMEOUT} {TIMEOUT + 12}", f"{TIMEOUT + 12} {TIMEOUT}"  # which timeout finds a hang
ENDLESS = ("iterations=100000", "trainer.devices=2", "checkpoint.every=0")


def ends(process: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has, too."""
    try:
        return "State:\tZ" in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return True


def wait_for(condition, seconds):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.1)
    return time.monotonic() - began


def two_ranks(start, folder, *overrides, timeouts=COLLECTIVE_FIRST):
    """A run under way, and its ranks' processes."""
    run = start(*ENDLESS, f"run_dir={folder}", *overrides, environment={"TIMEOUTS": timeouts})
    lines = folder / "metrics.jsonl"
    wait_for(lambda: run.poll() is not None or (lines.exists() and lines.read_text().count("\n") >= 2), 120)
    assert run.poll() is None, run.communicate(timeout=20)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    return run, [run.pid, int(children[0])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "rank", "strategy", "timeouts"),
    [
        (signal.SIGKILL, 0, "ddp", COLLECTIVE_FIRST),
        (signal.SIGKILL, 1, "fsdp", COLLECTIVE_FIRST),
        (signal.SIGSTOP, 0, "fsdp", COLLECTIVE_FIRST),
        (signal.SIGSTOP, 1, "ddp", SIGN_FIRST),
        (signal.SIGSTOP, 1, "fsdp", COLLECTIVE_FIRST),
    ],
)
def test_a_peer_that_dies_or_hangs(how, rank, strategy, timeouts, start, tmp_path, record_property):
    run, ranks = two_ranks(start, tmp_path / "run", f"trainer={strategy}", timeouts=timeouts)
    os.kill(ranks[rank], how)
    bound = 10 if how == signal.SIGKILL else TIMEOUT + 12
    seconds = wait_for(lambda: all(map(ends, ranks)), bound)
    record_property("seconds", seconds)
    print(f"{how.name} of rank {rank} under {strategy}: all had ended after {seconds:.1f} s")
    _, errors = run.communicate(timeout=10)
    assert f"rank {rank}" in errors
    assert "error: rank" in errors


@pytest.mark.slow
def test_a_rank_whose_verifier_hangs_is_named(start, tmp_path):
    run, _ = two_ranks(start, tmp_path / "run", "trainer=ddp", "verifier=hangs")
    _, errors = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "rank 1: iteration 3, verify" in errors
