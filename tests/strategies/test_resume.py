"""Runs that are killed, or told to stop, and go on as if nothing had been: under strategies, and across them."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
import torch
from run_files import metrics, samples, weights

from dsrl.checkpoint import read_checkpoint

PHASES = ("objective=nsr_prerl", "+phase2=grpo", "phase2.objective.kl={coefficient: 0.1, estimator: k3}")
TWENTY = (*PHASES, "phase2.start=8", "iterations=20", "checkpoint.every=1", "responses_per_prompt=2")
FOUR = (*PHASES, "phase2.start=2", "iterations=4", "checkpoint.every=1", "sampler=frozen")


def killed_again_and_again(start, folder, kills, *overrides):
    """Run to the end, killed (every process of it) after random times; how often it was killed before the end."""
    moments = random.Random(0)
    killed = 0
    while True:
        resume = ("resume=last",) if (folder / "config.yaml").exists() else ()
        run = start(*overrides, *resume, f"run_dir={folder}")
        if killed < kills:
            began = time.monotonic()
            at = moments.uniform(0, 12)  # from before the first import to well into the loop
            while run.poll() is None and time.monotonic() - began < at:
                time.sleep(0.02)
        if killed < kills and run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
            killed += 1
            continue
        _, errors = run.communicate(timeout=300)
        if "the run is finished" in errors:
            return killed
        assert run.returncode == 0, errors[-3000:]
        return killed


@pytest.mark.slow
@pytest.mark.parametrize(
    "ranks", [(), ("trainer=fsdp", "trainer.devices=2", "checkpoint.sharded=true")], ids=["one", "fsdp"]
)
def test_killed_at_random_moments_every_number_is_identical(ranks, start, train, tmp_path):
    train(*TWENTY, *ranks, f"run_dir={tmp_path / 'whole'}")
    killed = killed_again_and_again(start, tmp_path / "killed", 10, *TWENTY, *ranks)
    print("killed", killed, "times")
    assert killed >= 5
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    assert samples(tmp_path / "killed") == samples(tmp_path / "whole")
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(tmp_path / "killed").items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("trainer=auto",), ("trainer=fsdp", "trainer.devices=2")),
        (("trainer=fsdp", "trainer.devices=2", "checkpoint.sharded=true"), ("trainer=auto",)),
        (("trainer=fsdp1", "trainer.devices=2"), ("trainer=ddp", "trainer.devices=2")),
    ],
    ids=["1 to 2", "2 parts to 1", "fsdp1 to ddp"],
)
def test_goes_on_with_other_ranks(before, after, train, train_once, tmp_path):
    whole = train_once("four", *FOUR)
    first = tmp_path / "first"
    train(*FOUR, *before, f"run_dir={first}")
    handoff = next((first / "checkpoints").glob("handoff-*"))
    assert handoff.is_dir() == ("checkpoint.sharded=true" in before)
    train(*FOUR, *after, f"run_dir={tmp_path / 'second'}", f"resume={handoff}")
    for line, expected in zip(metrics(tmp_path / "second"), metrics(whole)[2:], strict=True):
        assert line == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_ends_well(number, start, train, train_once, tmp_path):
    folder = tmp_path / "run"
    settings = (*FOUR, "iterations=400", "checkpoint.every=0", "trainer=ddp", "trainer.devices=2")
    run = start(*settings, f"run_dir={folder}")
    while not (folder / "metrics.jsonl").exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    os.kill(run.pid, number)  # the first rank alone: the others hear of it
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors[-3000:]
    assert "stopped by a signal after" in output
    assert not (folder / "hf").exists()
    (saved,) = (folder / "checkpoints").glob("iteration*.ckpt")
    done = read_checkpoint(saved)["dsrl"]["iterations_done"]
    assert [line["iteration"] for line in metrics(folder)] == list(range(done))
    train(*settings, f"iterations={done + 1}", "resume=last", f"run_dir={folder}")
    assert [line["iteration"] for line in metrics(folder)] == list(range(done + 1))
