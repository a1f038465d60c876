"""What a checkpoint of a finished iteration holds besides tensors, remembered for when the next iteration fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L

from dsrl.loop.callbacks import callbacks_among
from dsrl.loop.module import DSRLModule
from dsrl.phases.scheduler import PhaseScheduler
from dsrl.registry.blame import is_foreign


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The state after an iteration, as plain values.

    That of dsrl's own callbacks changes at the end of an iteration alone, so it is not remembered. Tensors in the state
    of other callbacks are not copied.

    Attributes:
        loops: progress of Lightning's loops.
        callbacks: state of callbacks that are not dsrl's, by their keys.
        data: state of the data module, by the key that it has in a checkpoint.
        epoch: Lightning's `epoch` in a checkpoint.
        entered: number of the phase that has been entered.
        skipped_in_a_row: the module's.
        rates: learning rate of each group of parameters; None where they are not known.
    """

    loops: dict[str, Any]
    callbacks: dict[str, Any]
    data: dict[str, Any]
    epoch: int
    entered: int
    skipped_in_a_row: int
    rates: list[float] | None = None

    @classmethod
    def now(cls, trainer: L.Trainer, module: DSRLModule) -> Finished:
        """Remember the state in which a run is."""
        callbacks = callbacks_among(trainer, L.Callback)
        return cls(
            loops=trainer.fit_loop.state_dict(),
            callbacks={own.state_key: _copied(own.state_dict()) for own in callbacks if is_foreign(own)},
            data={type(module.data).__qualname__: module.data.state_dict()},
            epoch=trainer.current_epoch,
            entered=module.phase.number,
            skipped_in_a_row=module.skipped_in_a_row,
            rates=[group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups],
        )

    @classmethod
    def in_checkpoint(cls, checkpoint: Mapping[str, Any], module: DSRLModule) -> Finished:
        """Find the state in a checkpoint that is loaded."""
        data = type(module.data).__qualname__
        return cls(
            loops=_copied(checkpoint["loops"]["fit_loop"]),
            callbacks=_copied(checkpoint["callbacks"]),
            data={data: _copied(checkpoint[data])} if data in checkpoint else {},
            epoch=checkpoint["epoch"],
            entered=int(checkpoint["callbacks"][PhaseScheduler.__qualname__]["entered"]),
            skipped_in_a_row=int(checkpoint["dsrl"].get("skipped_in_a_row", 0)),
        )

    @property
    def iteration(self) -> int:
        """The iteration that is finished; -1 before the first."""
        return int(self.loops["epoch_progress"]["current"]["processed"]) - 1

    @property
    def steps(self) -> int:
        """How many optimizer steps have begun."""
        return int(self.loops["epoch_loop.manual_optimization.optim_step_progress"]["total"]["ready"])

    def put_into(self, checkpoint: dict[str, Any]) -> None:
        """Replace what a checkpoint that is about to be written holds of later moments, besides tensors."""
        checkpoint["loops"]["fit_loop"] = self.loops
        callbacks = {**checkpoint["callbacks"], **self.callbacks}
        checkpoint["callbacks"] = {key: state for key, state in callbacks.items() if state}
        checkpoint |= {**self.data, "epoch": self.epoch}

    def restore_into(self, trainer: L.Trainer, module: DSRLModule) -> None:
        """Give the plain values that a checkpoint takes from module and optimizer back to them."""
        module.skipped_in_a_row = self.skipped_in_a_row
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, self.rates or [], strict=False):
            group["lr"] = rate

    def end_iteration(self, trainer: L.Trainer) -> None:
        """Bring Lightning's loops from the middle of the iteration after this one to its end."""
        loop: Any = trainer.fit_loop
        if loop.epoch_progress.current.processed > self.iteration + 1:
            return
        for batches in (loop.epoch_loop.batch_progress, loop.epoch_loop.val_loop.batch_progress):
            for count in (batches.total, batches.current):
                count.started = count.processed = count.completed = count.ready
        loop.epoch_loop._batches_that_stepped = self.loops["epoch_loop.state_dict"]["_batches_that_stepped"] + 1
        trainer._logger_connector.epoch_end_reached()
        loop.epoch_progress.increment_processed()


def _copied(state: Any) -> Any:
    """Copy the containers of a state; what they hold stays the same."""
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else state
