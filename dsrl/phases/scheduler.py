"""Policy Reincarnation: the handoff from one phase to the next."""

from __future__ import annotations

from collections.abc import Callable
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

    Between two iterations it decides whether the next phase begins with the second; a condition is decided once, by
    rank 0 for all, and recorded. After the last iteration it leaves that to the run that goes on, which decides before
    its first. At a handoff it writes a checkpoint of the policy as the phase before it left it
    (`handoff-phase2-iteration20.ckpt`), from which the next phase can be run again with another objective.
    The first iteration of a phase begins with its entry: the module's phase (objective, sampling) is set, the
    optimizer's state is cleared and the policy copied to the reference, as the phase asks. The state of this callback
    is in every checkpoint.

    Args:
        phases: of the configuration, in their order: `PhaseScheduler(config.phases)`.
        checkpoints: the folder of handoff checkpoints; None: `checkpoints` in the trainer's `default_root_dir`.
        before_handoff: called with trainer and module, on every rank, after an iteration that a handoff follows and
            before the checkpoint of the handoff, which it may bring up to date.
    """

    def __init__(
        self,
        phases: list[Phase],
        checkpoints: Path | None = None,
        *,
        before_handoff: Callable[[L.Trainer, DSRLModule], None] = lambda trainer, module: None,
    ) -> None:
        self.phases, self.checkpoints, self.before_handoff = phases, checkpoints, before_handoff
        self.starts = [0]  # the iteration in which each phase that has been decided begins
        self.entered = 1  # number of the phase whose entry has been done
        self.history: list[float] = []  # of the watched metric, since the running phase began
        self.reasons: list[str] = []  # for each handoff, what asked for it; empty where `start` is an iteration
        self._asked = ""  # what else asks for a handoff after the iteration under way
        self.ended = -1  # the last iteration after which it was decided, or left to the run that goes on

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
    def watched(self) -> str | None:
        """The metric whose values decide when the next phase begins; None where none does."""
        start = self.phases[self.entered].start if self.entered < len(self.phases) else None
        return start.metric if isinstance(start, Condition) else None

    @property
    def waits_for_validation(self) -> bool:
        """Whether a number of a validation decides when the next phase begins."""
        return (self.watched or "").startswith("val/")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the phase in force, after a resume, too, and decide what the checkpoint could not know: its run ended
        there, or had other phases.
        """
        module = DSRLModule.of(pl_module)
        module.phase = self.phase
        if module.iteration > 0 and self._decide(trainer, module.iteration):
            self._save_handoff(trainer)

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

        Nothing happens in the last phase. In the last iteration it is kept for the run that goes on. Every rank calls
        it, in `on_train_epoch_end` of a callback that comes before this one.
        """
        self._asked = reason

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the watched metric, and decide whether the next phase begins with the next iteration, if any."""
        module = DSRLModule.of(pl_module)
        following = module.iteration + 1
        value = self._measured(module)
        self.history += [] if value is None else [value]
        begins = following < module.config.iterations and self._decide(trainer, following)
        self.ended = module.iteration
        if begins:
            self.before_handoff(trainer, module)
            self._save_handoff(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Save what a resumed run needs."""
        return {
            "starts": list(self.starts),
            "entered": self.entered,
            "history": list(self.history),
            "watched": self.watched,
            "reasons": list(self.reasons),
            "asked": self._asked,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it. The values of another metric than the one that is watched now are left."""
        self.starts, self.entered = list(state_dict["starts"]), int(state_dict["entered"])
        self.reasons, self._asked = list(state_dict.get("reasons", [])), str(state_dict.get("asked", ""))
        same = state_dict.get("watched", self.watched) == self.watched  # earlier versions did not say which it was
        self.history = list(state_dict["history"]) if same else []

    def _measured(self, module: DSRLModule) -> float | None:
        """Return the watched metric of the iteration that ends; None where it was not measured, or is not watched.

        A validation that was made only because the run ends says nothing: a longer run would not have had it.
        """
        if self.watched is None:
            return None
        value = module.metric(self.watched, f"phase{self.entered + 1}.start")
        due = module.config.validation.every and (module.iteration + 1) % module.config.validation.every == 0
        return value if due or not self.waits_for_validation else None

    def _decide(self, trainer: L.Trainer, following: int) -> bool:
        """Decide whether the next phase begins with the iteration `following`, unless that has been decided. On every
        rank.
        """
        asked, self._asked = self._asked, ""
        if len(self.starts) > self.entered or self.entered == len(self.phases):
            return False
        start, ran, reason = self.phases[self.entered].start, following - self.starts[-1], ""
        if isinstance(start, Condition):
            due = bool(trainer.strategy.broadcast(start.due(ran, self.history)))
            reason = start.reason(ran, self.history) if due else ""
        else:
            due = following >= start
        if due or asked:
            self.starts.append(following)
            self.reasons.append(asked or reason)
        return due or bool(asked)

    def _save_handoff(self, trainer: L.Trainer) -> None:
        """Write the checkpoint of the policy that the phase leaves. A collective."""
        folder = self.checkpoints or Path(trainer.default_root_dir) / "checkpoints"
        trainer.save_checkpoint(folder / f"handoff-phase{self.entered + 1}-iteration{self.starts[-1]}.ckpt")

    def _enter(self, module: DSRLModule, prompts: list[Prompt]) -> None:
        self.entered, self.history = self.entered + 1, []
        module.phase = self.phase
        if self.phase.reset_optimizer:
            for optimizer in module.trainer.optimizers:
                optimizer.state.clear()
        if self.phase.sync_reference:
            module.sync_reference(prompts)
