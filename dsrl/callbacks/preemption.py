"""A run that is told to go, by SIGTERM or SIGUSR1, saves what it has and ends well."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import lightning as L

from dsrl.distributed import all_max

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preemption(L.Callback):
    """After the iteration in which the signal came to any rank, all of them stop; Checkpoints saves first.

    SIGUSR1 is what SLURM sends before the time is over (`--signal=USR1@120`), SIGTERM what it sends at the end.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals over from Lightning, whose own handler talks to other ranks from inside the handler."""
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._receive)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop all ranks after this iteration where one of them was told to."""
        number = round(all_max(float(self.received or 0), pl_module.device))
        if number:
            self.received = signal.Signals(number)
            trainer.should_stop = True

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
