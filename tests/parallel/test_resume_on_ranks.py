"""Runs that are killed, or told to stop, and go on as if nothing had been: under strategies, and across them."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch
from run_files import lines_apart, metrics, samples, weights
from test_equal import STRATEGIES, TWO_PHASES

from dsrl.storage.checkpoint_files import read_checkpoint

PHASES = ("objective=nsr_prerl", "+phase2=grpo", "phase2.objective.kl={coefficient: 0.1, estimator: k3}")
STAGED = (*PHASES, "sampler=staged", "phase2.start=2", "iterations=5", "checkpoint.every=1", "responses_per_prompt=8")
ALL_STAGES = ("start 0", "sample 1", "save handoff-phase2-iteration2", "verify 2", "update 1", "save iteration3")
SOME_STAGES = ("save handoff-phase2-iteration2", "update 1", "save iteration3")
FSDP_IN_PARTS = (*STRATEGIES["fsdp"], "checkpoint.sharded=true")
FOUR = (*PHASES, "phase2.start=2", "iterations=4", "checkpoint.every=1", "sampler=written")


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "stages"), [((), ALL_STAGES), (FSDP_IN_PARTS, SOME_STAGES)], ids=["one", "fsdp"])
def test_killed_at_every_stage_every_number_is_identical(ranks, stages, start, train, tmp_path):
    """One run that is killed with all its processes, at each stage once, and goes on from its newest checkpoint."""
    train(*STAGED, *ranks, f"run_dir={tmp_path / 'whole'}")
    folder = tmp_path / "killed"
    for stage in stages:
        resume = ("resume=last",) if (folder / "config.yaml").exists() else ()
        run = start(*STAGED, *ranks, *resume, f"run_dir={folder}", environment={"DIES_AT": stage})
        _, errors = run.communicate(timeout=900)
        assert run.returncode == -signal.SIGKILL, (stage, errors[-3000:])
    train(*STAGED, *ranks, "resume=last", f"run_dir={folder}")
    assert metrics(folder) == metrics(tmp_path / "whole")
    assert samples(folder) == samples(tmp_path / "whole")
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(folder).items())


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
    assert handoff.is_dir() == (name != "alone")  # in parts where ranks hold parts
    train(*TWO_PHASES, *after, f"run_dir={tmp_path / 'second'}", f"resume={handoff}")
    assert lines_apart(metrics(tmp_path / "second"), metrics(train_once("alone", *TWO_PHASES))[2:]) < 1e-4


@pytest.mark.slow
def test_a_signal_saves_and_ends_well(start, train, tmp_path):
    """SIGUSR1, then Ctrl-C in the run that goes on, whose next iteration begins phase 2 or comes after it."""
    folder, done = tmp_path / "run", 0
    settings = (*FOUR, "checkpoint.every=0", "trainer=ddp", "trainer.devices=2", f"run_dir={folder}")
    for number, resume in ((signal.SIGUSR1, ()), (signal.SIGINT, ("resume=last",))):
        run = start(*settings, "iterations=400", *resume)
        while not (folder / "metrics.jsonl").exists() or (folder / "metrics.jsonl").read_text().count("\n") <= done:
            assert run.poll() is None, run.communicate()
            time.sleep(0.1)
        os.kill(run.pid, number)  # the first rank alone: the others hear of it
        output, errors = run.communicate(timeout=900)
        assert run.returncode == (130 if number == signal.SIGINT else 0), errors[-3000:]
        assert not (folder / "hf").exists()
        saved = max((folder / "checkpoints").glob("iteration*.ckpt"), key=lambda path: path.stat().st_mtime)
        done = read_checkpoint(saved)["dsrl"]["iterations_done"]
        assert f"stopped after {done} of 400 iterations" in output
        assert [line["iteration"] for line in metrics(folder)] == list(range(done))
    train(*settings, f"iterations={done + 2}", "resume=last")
    assert [line["iteration"] for line in metrics(folder)] == list(range(done + 2))


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait(start, tmp_path):
    folder = tmp_path / "run"
    run = start(
        *FOUR,
        "iterations=400",
        "sampler=hf",
        "sampler.max_batch_total_tokens=1700",
        "responses_per_prompt=64",
        f"run_dir={folder}",
    )
    while not (folder / "checkpoints" / "iteration0.ckpt").exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    os.kill(run.pid, signal.SIGINT)
    assert [run.stderr.readline(), run.stderr.readline()][1].startswith("stopping after this iteration; Ctrl-C again")
    os.kill(run.pid, signal.SIGINT)
    output, errors = run.communicate(timeout=900)
    assert (run.returncode, errors) == (130, "")
    assert "interrupted; saved after " in output
    assert f" of 400 iterations: `python train.py resume=last run_dir={folder}` goes on" in output


@pytest.mark.slow
def test_a_phase_that_is_added_begins_at_once_on_ranks_that_hold_parts(train, tmp_path):
    """Its handoff is written before the first iteration, and the one frozen copy becomes two."""
    small = ("sampler=written", "objective=grpo", "objective.kl.coefficient=0.1", "initial_kl.every=1")
    small = (*small, "checkpoint.every=1", "optimizer.lr=2e-4")
    added = ("+phase2=nsr", "phase2.start=2", "phase2.objective.kl={coefficient: 0.1, estimator: k3}", "iterations=3")
    for name, ranks in (("alone", ()), ("parts", FSDP_IN_PARTS)):
        train(*small, *ranks, "iterations=2", f"run_dir={tmp_path / name}")
        path = tmp_path / name / "checkpoints" / "iteration1.ckpt"
        train(*small, *ranks, *added, f"resume={path}", f"run_dir={tmp_path / name}-on")
        assert (tmp_path / f"{name}-on" / "checkpoints" / "handoff-phase2-iteration2.ckpt").is_dir() == bool(ranks)
    (line,) = metrics(tmp_path / "parts-on")
    assert line["phase"] == 2 and line["kl/initial"] > 0
    assert lines_apart([line], metrics(tmp_path / "alone-on")) < 1e-4
