"""Save a checkpoint and end well when the run is told to stop: by SIGTERM, SIGUSR1 or Ctrl-C."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

import lightning as L

from dsrl.parallel.collectives import all_max

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Preemption(L.Callback):
    """Stop all ranks after the iteration in which a signal came to any of them; the callback Checkpoints saves first.

    SLURM sends SIGUSR1 before the time is over (`--signal=USR1@120`), and SIGTERM at the end. A second Ctrl-C (SIGINT)
    does not wait for the iteration.
    """

    def __init__(self) -> None:
        """`received` is the signal that ended the run; None until one comes."""
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._prints = False

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals over but for Ctrl-C, which ends the validation before any update at once."""
        self._take_over(signal.SIGTERM, signal.SIGUSR1)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals over; stop all ranks before any iteration where one has come meanwhile."""
        self._prints = trainer.is_global_zero
        self._take_over(*SIGNALS)
        self._stop_if_told(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop all ranks after this iteration if one of them was told to."""
        self._stop_if_told(trainer)

    def _take_over(self, *numbers: signal.Signals) -> None:
        """Take signals over from Lightning, which would talk to other ranks from inside a handler."""
        for number in numbers:
            ignored = signal.getsignal(number) is signal.SIG_IGN  # as a shell has it for Ctrl-C in the background
            if not ignored and number not in self._before:
                self._before[number] = signal.signal(number, self._receive)

    def _stop_if_told(self, trainer: L.Trainer) -> None:
        number = round(all_max(float(self.received or 0)))
        if number:
            self.received = signal.Signals(number)
            trainer.should_stop = True

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back to the handlers from before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(number, self._before[self.received])
            if self._prints:
                print("\nstopping after this iteration; Ctrl-C again stops at once", file=sys.stderr, flush=True)
