"""A rank that dies or hangs ends the run: how fast, with which message, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import time

import pytest
from processes import in_group, running

TIMEOUT = 8  # seconds that ranks wait for each other, once all have started
SIGN_FIRST, COLLECTIVE_FIRST = f"{TIMEOUT} {TIMEOUT + 12}", f"{TIMEOUT + 12} {TIMEOUT}"  # which timeout finds a hang
LATER = "60 60"  # than a rank that dies ends the others: they hear of it
ENDLESS = ("iterations=100000", "trainer.devices=2", "checkpoint.every=0")


def wait_for(condition, seconds):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.1)
    return time.monotonic() - began


def two_ranks(start, folder, *overrides, timeouts=COLLECTIVE_FIRST, **environment):
    """A run under way, and its ranks' processes."""
    run = start(*ENDLESS, f"run_dir={folder}", *overrides, environment={"TIMEOUTS": timeouts, **environment})
    lines = folder / "metrics.jsonl"
    wait_for(lambda: run.poll() is not None or (lines.exists() and lines.read_text().count("\n") >= 2), 900)
    assert run.poll() is None, run.communicate(timeout=20)
    return run, in_group(run.pid)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "rank", "strategy", "timeouts"),
    [
        (signal.SIGKILL, 0, "ddp", LATER),
        (signal.SIGKILL, 1, "fsdp", LATER),
        (signal.SIGSTOP, 0, "fsdp", COLLECTIVE_FIRST),
        (signal.SIGSTOP, 1, "ddp", SIGN_FIRST),
    ],
)
def test_a_peer_that_dies_or_hangs(how, rank, strategy, timeouts, start, tmp_path, record_property):
    run, ranks = two_ranks(start, tmp_path / "run", f"trainer={strategy}", timeouts=timeouts)
    os.kill(ranks[rank], how)
    seconds = wait_for(lambda: not any(map(running, ranks)), 50)
    record_property("seconds", seconds)
    print(f"{how.name} of rank {rank} under {strategy}: all had ended after {seconds:.1f} s")
    _, errors = run.communicate(timeout=10)
    assert f"rank {rank}" in errors
    assert "error: rank" in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("timeouts", "aborts", "hangs", "said"),
    [
        (COLLECTIVE_FIRST, "", "verifier=hangs", "error: the ranks do not come together"),
        (SIGN_FIRST, "1", "verifier=hangs", "error: the ranks have not come together for 8 s"),
        (SIGN_FIRST, "1", "update 6", "warning: no rank has got on for 8 s"),
    ],
    ids=["an exception", "before an abort", "an abort"],
)
def test_a_rank_that_hangs_is_named_where_it_hangs(timeouts, aborts, hangs, said, start, tmp_path):
    """Collectives that wait too long raise (gloo), or end their process without an exception (NCCL): `aborts`."""
    verifies = hangs == "verifier=hangs"
    environment = {"ABORTS": aborts, "HANGS_AT": "" if verifies else hangs}
    overrides = ("trainer=ddp", "update.minibatches=2", *([hangs] if verifies else []))
    run, ranks = two_ranks(start, tmp_path / "run", *overrides, timeouts=timeouts, **environment)
    seconds = wait_for(lambda: not any(map(running, ranks)), 60)
    print(f"all had ended after {seconds:.1f} s")
    _, errors = run.communicate(timeout=60)
    assert run.returncode != 0
    assert said in errors
    assert f"rank 1: iteration 3, {'verify' if verifies else 'update'} (dsrl/" in errors


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_slow_disk_ends_no_run(strategy, start, tmp_path):
    """A checkpoint takes longer than ranks wait for each other. Under fsdp the run goes on meanwhile: the checkpoint of
    iteration 1 is not written before iteration 2 has been reported."""
    environment = {"TIMEOUTS": "8 8", "SLOW_DISK": "10 3" if strategy == "fsdp" else "10 0"}
    settings = ("iterations=4", "checkpoint.every=2", "checkpoint.keep=3", "trainer.devices=2")
    run = start(*settings, f"trainer={strategy}", f"run_dir={tmp_path / 'run'}", environment=environment)
    checkpoints = tmp_path / "run" / "checkpoints"
    _, errors = run.communicate(timeout=900)
    assert run.returncode == 0, errors[-3000:]
    assert sorted(path.name for path in checkpoints.glob("*.ckpt")) == [f"iteration{n}.ckpt" for n in (1, 3)]
