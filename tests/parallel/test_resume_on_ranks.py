"""Runs that are killed, or told to stop, and go on as if nothing had been: under strategies, and across them."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
import torch
from run_files import lines_apart, metrics, samples, weights
from test_equal import STRATEGIES, TWO_PHASES

from dsrl.storage.checkpoint_files import read_checkpoint

PHASES = ("objective=nsr_prerl", "+phase2=grpo", "phase2.objective.kl={coefficient: 0.1, estimator: k3}")
LONG = (*PHASES, "phase2.start=4", "iterations=24", "checkpoint.every=1", "responses_per_prompt=8")
FSDP_IN_PARTS = (*STRATEGIES["fsdp"], "checkpoint.sharded=true")
FOUR = (*PHASES, "phase2.start=2", "iterations=4", "checkpoint.every=1", "sampler=frozen")


def done_in(folder):
    """Iterations whose line is written."""
    lines = folder / "metrics.jsonl"
    return lines.read_text().count("\n") if lines.exists() else 0


def killed_again_and_again(start, folder, kills, *overrides):
    """Run to the end, with every process of it killed at random moments: in an iteration, a save, a start."""
    moments = random.Random(0)
    for _ in range(kills):
        resume = ("resume=last",) if (folder / "config.yaml").exists() else ()
        run, goal = start(*overrides, *resume, f"run_dir={folder}"), done_in(folder) + moments.choice((0, 1, 2))
        while run.poll() is None and done_in(folder) < goal:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        assert run.poll() is None, run.communicate()
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    resume = ("resume=last",) if (folder / "config.yaml").exists() else ()
    run = start(*overrides, *resume, f"run_dir={folder}")
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "kills"), [((), 7), (FSDP_IN_PARTS, 3)], ids=["one", "fsdp"])
def test_killed_at_random_moments_every_number_is_identical(ranks, kills, start, train, tmp_path):
    train(*LONG, *ranks, f"run_dir={tmp_path / 'whole'}")
    killed_again_and_again(start, tmp_path / "killed", kills, *LONG, *ranks)
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    assert samples(tmp_path / "killed") == samples(tmp_path / "whole")
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(tmp_path / "killed").items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("alone", (), STRATEGIES["fsdp"]),
        ("in parts", FSDP_IN_PARTS, ()),
        ("fsdp1", STRATEGIES["fsdp1"], STRATEGIES["ddp"]),
    ],
    ids=["1 to 2", "2 parts to 1", "fsdp1 to ddp"],
)
def test_goes_on_with_other_ranks(name, before, after, train, train_once, tmp_path):
    first = train_once(name, *TWO_PHASES, *before)
    handoff = next((first / "checkpoints").glob("handoff-*"))
    assert handoff.is_dir() == ("checkpoint.sharded=true" in before)
    train(*TWO_PHASES, *after, f"run_dir={tmp_path / 'second'}", f"resume={handoff}")
    assert lines_apart(metrics(tmp_path / "second"), metrics(train_once("alone", *TWO_PHASES))[2:]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_ends_well(number, start, train, train_once, tmp_path):
    folder = tmp_path / "run"
    settings = (*FOUR, "iterations=400", "checkpoint.every=0", "trainer=ddp", "trainer.devices=2")
    run = start(*settings, f"run_dir={folder}")
    while not (folder / "metrics.jsonl").exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    os.kill(run.pid, number)  # the first rank alone: the others hear of it
    output, errors = run.communicate(timeout=60)
    assert run.returncode == (130 if number == signal.SIGINT else 0), errors[-3000:]
    assert "stopped by a signal after" in output
    assert not (folder / "hf").exists()
    (saved,) = (folder / "checkpoints").glob("iteration*.ckpt")
    done = read_checkpoint(saved)["dsrl"]["iterations_done"]
    assert [line["iteration"] for line in metrics(folder)] == list(range(done))
    train(*settings, f"iterations={done + 2}", "resume=last", f"run_dir={folder}")  # after one, phase 2 is to begin
    assert [line["iteration"] for line in metrics(folder)] == list(range(done + 2))


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait(start, tmp_path):
    folder = tmp_path / "run"
    run = start(*FOUR, "iterations=400", "prompts_per_iteration=16", "responses_per_prompt=16", f"run_dir={folder}")
    while not (folder / "checkpoints" / "iteration0.ckpt").exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    os.kill(run.pid, signal.SIGINT)
    assert [run.stderr.readline(), run.stderr.readline()][1].startswith("stopping after this iteration; Ctrl-C again")
    os.kill(run.pid, signal.SIGINT)
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (130, "")
    assert f"run_dir={folder} resume=last goes on from the newest checkpoint" in output.replace("\n", " ")
