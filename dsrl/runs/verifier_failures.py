"""What verifiers fail on, in the run folder: verifier_failures.jsonl, and how many there are on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from rich.console import Console

from dsrl.loop.module import DSRLModule
from dsrl.parallel.collectives import gather, own_rank
from dsrl.runs.failure_file import FILE, append_failures
from dsrl.verifiers.failures import Failures
from dsrl.verifiers.verifier import failures_of


class VerifierFailures(L.Callback):
    """Write what verifiers raised, or were lost over, to verifier_failures.jsonl, and print how often; rank 0 does it
    for all ranks.

    A line has `iteration`, `rank`, `verifier`, `message`, `traceback`, `question` and `response`. The count is printed
    when it reaches 10, 100, 1,000 and so on, and at the end.

    Args:
        folder: the run folder.
        console: where counts are printed.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder, self.console = folder, console
        self.totals: dict[str, Failures] = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take note of the iteration."""
        self._take(trainer, DSRLModule.of(pl_module), trainer.current_epoch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take note of the validation."""
        self._take(trainer, DSRLModule.of(pl_module), -1 if trainer.sanity_checking else trainer.current_epoch)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the totals."""
        for total in self.totals.values() if trainer.is_global_zero else ():
            if total.failed:
                self._print(total)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Write what this rank's verifiers failed on in the iteration that ended the run."""
        found = failures_of(DSRLModule.of(pl_module).verifier)
        if any(failures.kept for failures in found):
            append_failures(self.folder, found, iteration=trainer.current_epoch, rank=own_rank())

    def add(self, of_ranks: Sequence[Sequence[Failures]], iteration: int) -> None:
        """Write what the verifiers of each rank failed on in an iteration, and count it."""
        for rank, found in enumerate(of_ranks):
            append_failures(self.folder, found, iteration=iteration, rank=rank)
            for failures in found:
                total = self.totals.setdefault(failures.verifier, Failures(verifier=failures.verifier))
                digits = len(str(total.failed))
                total.checked, total.raised = total.checked + failures.checked, total.raised + failures.raised
                total.lost += failures.lost
                if len(str(total.failed)) > digits:
                    self._print(total)

    def _take(self, trainer: L.Trainer, module: DSRLModule, iteration: int) -> None:
        found = failures_of(module.verifier)
        if not found:  # on every rank: it is a verifier that counts none
            return
        of_ranks = gather(found)
        if trainer.is_global_zero:
            self.add(of_ranks, iteration)

    def _print(self, total: Failures) -> None:
        self.console.print(
            f"{total.counts()} so far: {self.folder / FILE}", style="yellow", markup=False, soft_wrap=True
        )
