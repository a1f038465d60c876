"""The best checkpoint: what it is compared with after a resume, and that every checkpoint knows it."""

from __future__ import annotations

import lightning as L
import pytest

from dsrl.config.schema import CheckpointConfig
from dsrl.parallel.strategy import LoopStrategy
from dsrl.runs.checkpoints import Checkpoints
from dsrl.runs.rescue import Rescue

BEST = CheckpointConfig(best="reward/mean")


def restored(tmp_path, saved: CheckpointConfig, now: CheckpointConfig) -> float | None:
    before, after = Checkpoints(tmp_path, saved), Checkpoints(tmp_path, now)
    before.best = 0.25
    after.load_state_dict(before.state_dict())
    return after.best


@pytest.mark.parametrize(
    ("now", "best"),
    [
        (CheckpointConfig(best="reward/mean", keep=5), 0.25),
        (CheckpointConfig(best="response/length_mean"), None),
        (CheckpointConfig(best="reward/mean", best_mode="min"), None),
        (CheckpointConfig(), None),
    ],
)
def test_the_best_of_another_metric_or_mode_is_none(now, best, tmp_path):
    assert restored(tmp_path, BEST, now) == best


def test_what_version_0_2_saved_is_taken_as_it_is(tmp_path):
    after = Checkpoints(tmp_path, BEST)
    after.load_state_dict({"best": 0.25})
    assert after.best == 0.25


def test_another_metric_starts_over(fit, tmp_path):
    fit("iterations=1", "validation.every=0", "checkpoint.best=reward/mean")
    fit("iterations=2", "validation.every=0", "checkpoint.best=lr", "checkpoint.best_mode=max", "resume=last")
    assert [path.name for path in (tmp_path / "run/checkpoints").glob("best-*")] == ["best-iteration1.ckpt"]


class Killed(Exception):
    pass


def test_the_checkpoint_of_a_handoff_knows_the_best(fit, tmp_path, monkeypatch):
    """Killed between the handoff's checkpoint and any other, a run goes on with the best that it had."""
    asked = ("objective=nsr_prerl", "+phase2=grpo", "phase2.start=1", "iterations=2", "checkpoint.every=0")
    asked = (*asked, "validation.every=0", "checkpoint.best=lr", "phase2.lr=1e-5", "optimizer.lr=1e-4")
    save, folder = L.Trainer.save_checkpoint, tmp_path / "run/checkpoints"

    def save_and_die(self, path, **rest):
        save(self, path, **rest)
        if path.name.startswith("handoff"):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(L.Trainer, "save_checkpoint", save_and_die)
        patch.setattr(Rescue, "on_exception", lambda *given: None)
        with pytest.raises(Killed):
            fit(*asked)
    assert sorted(path.name for path in folder.iterdir()) == ["best-iteration0.ckpt", "handoff-phase2-iteration1.ckpt"]
    fit(*asked, "resume=last")
    assert [path.name for path in folder.glob("best-*")] == ["best-iteration0.ckpt"]  # 1e-5 is not above 1e-4


def test_a_number_that_each_rank_measures_is_that_of_rank_0(fit, monkeypatch):
    """The clocks of two ranks differ, and what is decided by them must not."""
    of_rank_0 = {"time/iteration": 8.0, "time/sample": 4.0}

    def broadcast(self, value, src=0):
        return of_rank_0 if isinstance(value, dict) and "time/sample" in value else value

    monkeypatch.setattr(LoopStrategy, "broadcast", broadcast)
    metrics = fit("iterations=1", "validation.every=0").metrics
    assert metrics["time/sample"] == 4.0
    assert metrics["throughput/tokens_per_second"] == metrics["tokens/sampled"] / 8.0
