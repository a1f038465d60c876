"""Policy Reincarnation: the sole owner of phases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from dsrl.loop.module import DSRLModule
from dsrl.phases.conditions import Condition
from dsrl.phases.phase import Phase
from dsrl.types import Prompt


class PhaseScheduler(L.Callback):
    """Runs the phases of a run one after the other.

    After each iteration it decides whether the next phase begins with the following one; a condition is decided once,
    by rank 0 for all, and recorded. On a handoff it writes a checkpoint of the policy as the phase before it left it
    (`handoff-phase2-iteration20.ckpt`), from which the next phase can be run again with another objective.
    On entry, the first thing in the phase's first iteration, it sets the module's phase (objective, sampling), clears
    the optimizer's state and copies the policy to the reference, as the phase asks. It sets the learning rate of every
    iteration. Its state is in every checkpoint.
    """

    def __init__(self, phases: list[Phase], *, iterations: int, checkpoints: Path) -> None:
        self.phases, self.iterations, self.checkpoints = phases, iterations, checkpoints
        self.starts = [0]  # the iteration in which each phase that has been decided begins
        self.entered = 1  # number of the phase whose entry has been done
        self.history: list[float] = []  # of the watched metric, since the running phase began

    @property
    def phase(self) -> Phase:
        """The running phase."""
        return self.phases[self.entered - 1]

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
        rate = self.phase.learning_rate(module.iteration - start, self.iterations - start)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Decide whether the next phase begins with the next iteration."""
        module = DSRLModule.of(pl_module)
        following = module.iteration + 1
        if self.entered == len(self.phases) or following >= self.iterations:
            return
        start = self.phases[self.entered].start
        if isinstance(start, Condition):
            value = module.metric(start.metric, f"phase{self.entered + 1}.start")
            self.history += [] if value is None else [value]
            due = bool(trainer.strategy.broadcast(start.due(following - self.starts[-1], self.history)))
        else:
            due = following >= start
        if due:
            self.starts.append(following)
            trainer.save_checkpoint(self.checkpoints / f"handoff-phase{self.entered + 1}-iteration{following}.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"starts": list(self.starts), "entered": self.entered, "history": list(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.starts, self.entered = list(state_dict["starts"]), int(state_dict["entered"])
        self.history = list(state_dict["history"])

    def _enter(self, module: DSRLModule, prompts: list[Prompt]) -> None:
        self.entered, self.history = self.entered + 1, []
        module.phase = self.phase
        if self.phase.reset_optimizer:
            for optimizer in module.trainer.optimizers:
                optimizer.state.clear()
        if self.phase.sync_reference:
            module.sync_reference(prompts)
