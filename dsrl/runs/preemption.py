"""A run that is told to go, by SIGTERM, SIGUSR1 or Ctrl-C, saves what it has and ends well."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

import lightning as L

from dsrl.parallel.collectives import all_max

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Preemption(L.Callback):
    """After the iteration in which the signal came to any rank, all of them stop; Checkpoints saves first.

    SIGUSR1 is what SLURM sends before the time is over (`--signal=USR1@120`), SIGTERM what it sends at the end. A
    second Ctrl-C (SIGINT) does not wait for the iteration.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._speaks = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals over from Lightning, whose own handler talks to other ranks from inside the handler."""
        self._speaks = trainer.is_global_zero
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:  # as a shell has it for Ctrl-C in the background
                continue
            self._before[number] = signal.signal(number, self._receive)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop all ranks after this iteration where one of them was told to."""
        number = round(all_max(float(self.received or 0)))
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
        if number == signal.SIGINT:
            signal.signal(number, self._before[self.received])
            if self._speaks:
                print("\nstopping after this iteration; Ctrl-C again stops at once", file=sys.stderr, flush=True)
