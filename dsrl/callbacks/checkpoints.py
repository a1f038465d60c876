"""Checkpoints of a run: the newest ones, by Lightning's own ModelCheckpoint."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from dsrl.config.schema import CheckpointConfig


class Checkpoints(ModelCheckpoint):
    """Every `every` iterations, and after the last one; the newest `keep` stay."""

    def __init__(self, folder: Path, config: CheckpointConfig, *, iterations: int) -> None:
        super().__init__(
            dirpath=folder,
            filename="iteration{epoch}",
            auto_insert_metric_name=False,
            monitor="step",
            mode="max",
            save_top_k=config.keep,
            every_n_epochs=config.every or iterations + 1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.iterations = iterations

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save after the run's last iteration, too."""
        if trainer.current_epoch + 1 == self.iterations:
            self._every_n_epochs = 1
        super().on_train_epoch_end(trainer, pl_module)
