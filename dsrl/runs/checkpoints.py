"""Checkpoints of a run: the newest, the best, and the one of a run that is told to stop. PhaseScheduler writes those of
handoffs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from dsrl.config.schema import CheckpointConfig
from dsrl.loop.module import DSRLModule
from dsrl.parallel.strategy import wait_for_all
from dsrl.runs.finished import Finished
from dsrl.storage.atomic import remove


class Checkpoints(Checkpoint):
    """Write `iteration19.ckpt` after iteration 19, `best-iteration19.ckpt` where the watched metric was best so far.

    Every `every` iterations, after the last one, and when the run is told to stop. The newest `keep` stay, and no older
    one goes before a newer one is complete.
    """

    def __init__(self, folder: Path, config: CheckpointConfig) -> None:
        self.folder, self.config = folder, config
        self.best: float | None = None  # value of the watched metric
        self.compared = -1  # the last iteration that was compared with it
        self.finished: Finished | None = None  # after the last iteration, or before the first
        self.saving = False

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember the state of the iteration that is loaded."""
        self.finished = Finished.in_checkpoint(checkpoint, DSRLModule.of(pl_module))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove what a run that was killed has begun to write, before anything is written."""
        for path in self.folder.glob(".*.partial") if trainer.is_global_zero else ():
            remove(path)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember the state before the first iteration."""
        self.finished = self.finished or Finished.now(trainer, DSRLModule.of(pl_module))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save where it is time; then let go of older ones, and remember the state of this iteration."""
        module, iteration, every = DSRLModule.of(pl_module), trainer.current_epoch, self.config.every
        self.save_best(trainer, module)
        self.saving = True
        due = every > 0 and (iteration + 1) % every == 0
        last = trainer.should_stop or iteration + 1 == trainer.max_epochs
        if due or last:
            self.save(trainer, iteration, waits=last)
        if trainer.is_global_zero:
            self._keep("best-iteration*.ckpt", 1)
        self.saving, self.finished = False, Finished.now(trainer, module)

    @property
    def ended(self) -> int:
        """The last iteration that was saved or did not have to be."""
        return -1 if self.finished is None else self.finished.iteration

    def save_best(self, trainer: L.Trainer, module: DSRLModule) -> None:
        """Save where the iteration that ends was the best so far: once, before any other checkpoint of it is written,
        so that each of them knows the best one. A collective.
        """
        if self.compared == module.iteration:
            return
        self.compared, self.saving = module.iteration, True
        if self._improved(module):
            trainer.save_checkpoint(self.folder / f"best-iteration{module.iteration}.ckpt")
        self.saving = False

    def save(self, trainer: L.Trainer, iteration: int, *, waits: bool = True) -> None:
        """Write the checkpoint of an iteration, and let go of older ones. A collective, which `waits` for its end."""
        trainer.save_checkpoint(self.folder / f"iteration{iteration}.ckpt")
        if waits:
            wait_for_all(trainer.strategy)
        if trainer.is_global_zero:
            self._keep("iteration*.ckpt", self.config.keep)

    def state_dict(self) -> dict[str, Any]:
        """Save the best value so far, and of what it is."""
        return {"best": self.best, **self._compared_by}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it; start over where another metric, or the other mode, is watched now."""
        same = all(state_dict.get(key, now) == now for key, now in self._compared_by.items())  # 0.2 did not save them
        self.best = state_dict["best"] if same else None

    @property
    def _compared_by(self) -> dict[str, Any]:
        return {"metric": self.config.best, "mode": self.config.best_mode}

    def _improved(self, module: DSRLModule) -> bool:
        """Whether this iteration measured the watched metric, and it was the best so far."""
        value = None if self.config.best is None else module.metric(self.config.best, "checkpoint.best")
        if value is None:
            return False
        better = self.best is None or (value > self.best if self.config.best_mode == "max" else value < self.best)
        if better:
            self.best = value
        return better

    def _keep(self, pattern: str, count: int) -> None:
        paths = sorted(self.folder.glob(pattern), key=lambda path: int(path.stem.partition("iteration")[2]))
        for path in paths[:-count]:
            remove(path)
