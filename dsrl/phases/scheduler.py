"""Policy Reincarnation: the handoff from one phase to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import lightning as L

from dsrl.loop.callbacks import callbacks_among
from dsrl.loop.module import DSRLModule
from dsrl.phases.conditions import Condition
from dsrl.phases.phase import Phase
from dsrl.types import Prompt


class Begun(NamedTuple):
    """A phase, the iteration that it began with, and why where a condition or a monitor asked for it."""

    phase: Phase
    start: int
    reason: str


class PhaseScheduler(L.Callback):
    """Run the phases of a run one after the other, and set the learning rate of every iteration.

    After each iteration it decides whether the next phase begins with the following one; a condition is decided once,
    by rank 0 for all, and recorded. At a handoff it writes a checkpoint of the policy as the phase before it left it
    (`handoff-phase2-iteration20.ckpt`), from which the next phase can be run again with another objective.
    The first iteration of a phase begins with its entry: the module's phase (objective, sampling) is set, the
    optimizer's state is cleared and the policy copied to the reference, as the phase asks. The state of this callback
    is in every checkpoint.

    Args:
        phases: of the configuration, in their order: `PhaseScheduler(config.phases)`.
        checkpoints: the folder of handoff checkpoints; None: `checkpoints` in the trainer's `default_root_dir`.
    """

    def __init__(self, phases: list[Phase], checkpoints: Path | None = None) -> None:
        self.phases, self.checkpoints = phases, checkpoints
        self.starts = [0]  # the iteration in which each phase that has been decided begins
        self.entered = 1  # number of the phase whose entry has been done
        self.history: list[float] = []  # of the watched metric, since the running phase began
        self.reasons: list[str] = []  # for each handoff, what asked for it; empty where `start` is an iteration
        self._asked = ""  # what else asks for a handoff after the iteration under way
        self.ended = -1  # the last iteration after which it was decided

    @classmethod
    def reason_at(cls, trainer: L.Trainer, iteration: int) -> str:
        """Say why a phase begins with this iteration, where a condition or a monitor asked for it; else empty."""
        return next((later.reason for later in cls.begun(trainer)[1:] if later.start == iteration), "")

    @classmethod
    def begun(cls, trainer: L.Trainer) -> list[Begun]:
        """List the phases that have begun, and the one that begins with the next iteration, if that is decided."""
        for scheduler in callbacks_among(trainer, cls):
            reasons = ["", *scheduler.reasons, *[""] * len(scheduler.starts)]
            return [*map(Begun, scheduler.phases, scheduler.starts, reasons)]
        return []

    @property
    def phase(self) -> Phase:
        """The running phase."""
        return self.phases[self.entered - 1]

    @property
    def waits_for_validation(self) -> bool:
        """Whether a number of a validation decides when the next phase begins."""
        start = self.phases[self.entered].start if self.entered < len(self.phases) else None
        return isinstance(start, Condition) and start.metric.startswith("val/")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the phase in force, after a resume, too."""
        DSRLModule.of(pl_module).phase = self.phase

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Enter the phase that begins with this iteration, and set the iteration's learning rate."""
        module = DSRLModule.of(pl_module)
        if len(self.starts) > self.entered:
            self._enter(module, batch)
        start = self.starts[self.entered - 1]
        rate = self.phase.learning_rate(module.iteration - start, module.config.iterations - start)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def hand_off(self, reason: str) -> None:
        """Begin the next phase with the next iteration, whatever its `start` says. `reason` is recorded.

        Nothing happens in the last phase and in the last iteration. Every rank calls it, in `on_train_epoch_end` of a
        callback that comes before this one.
        """
        self._asked = reason

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Decide whether the next phase begins with the next iteration."""
        module = DSRLModule.of(pl_module)
        following, asked = module.iteration + 1, self._asked
        self._asked = ""
        if self.entered == len(self.phases) or following >= module.config.iterations:
            self.ended = module.iteration
            return
        start, reason = self.phases[self.entered].start, ""
        if isinstance(start, Condition):
            value = module.metric(start.metric, f"phase{self.entered + 1}.start")
            self.history += [] if value is None else [value]
            ran = following - self.starts[-1]
            due = bool(trainer.strategy.broadcast(start.due(ran, self.history)))
            reason = start.reason(ran, self.history) if due else ""
        else:
            due = following >= start
        self.ended = module.iteration
        if due or asked:
            self.starts.append(following)
            self.reasons.append(asked or reason)
            folder = self.checkpoints or Path(trainer.default_root_dir) / "checkpoints"
            trainer.save_checkpoint(folder / f"handoff-phase{self.entered + 1}-iteration{following}.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """Save what a resumed run needs."""
        return {
            "starts": list(self.starts),
            "entered": self.entered,
            "history": list(self.history),
            "reasons": list(self.reasons),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.starts, self.entered = list(state_dict["starts"]), int(state_dict["entered"])
        self.history, self.reasons = list(state_dict["history"]), list(state_dict.get("reasons", []))

    def _enter(self, module: DSRLModule, prompts: list[Prompt]) -> None:
        self.entered, self.history = self.entered + 1, []
        module.phase = self.phase
        if self.phase.reset_optimizer:
            for optimizer in module.trainer.optimizers:
                optimizer.state.clear()
        if self.phase.sync_reference:
            module.sync_reference(prompts)
