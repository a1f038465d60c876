"""Early warnings of a run: on the terminal, in its metrics, in warnings.jsonl; and what they ask for: handoff, stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from rich.console import Console
from rich.markup import escape

from dsrl.loop.module import DSRLModule
from dsrl.monitors import EarlyWarning, Monitor
from dsrl.monitors.monitor import ask
from dsrl.phases.scheduler import PhaseScheduler
from dsrl.runs.lines import text_of
from dsrl.storage.atomic import atomic


class Monitoring(L.Callback):
    """Show the numbers of every iteration to the monitors, on rank 0 for all, and do what their warnings ask for.

    A warning that holds is `warnings/LABEL` = 1 in its iteration's line of metrics.jsonl. The first of each monitor in
    a phase is printed, written to warnings.jsonl, and acted on: the next phase begins with the next iteration, or the
    run ends with a checkpoint. So is the first after a resume that has given the monitor another of these actions. The
    state of this callback is in every checkpoint, so that a resumed run is warned as one that was never interrupted.

    Args:
        monitors: of the configuration, by label.
        folder: where warnings.jsonl is written.
        scheduler: hands over to the next phase. It must come after this callback, and so must what saves checkpoints.
        console: where warnings are printed.
    """

    def __init__(
        self, monitors: Mapping[str, Monitor], folder: Path, *, scheduler: PhaseScheduler, console: Console
    ) -> None:
        self.monitors, self.folder, self.scheduler, self.console = monitors, folder, scheduler, console
        self.phase = 0  # number of the phase that `history` is of
        self.history: list[dict[str, float]] = []
        self.given: list[dict[str, Any]] = []  # the lines of warnings.jsonl
        self.ended = -1  # the last iteration that was shown to the monitors

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Drop warnings of iterations that are about to run (again)."""
        if self.given or (self.folder / "warnings.jsonl").exists():
            self._write(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ask every monitor, and act on what is said for the first time in this phase."""
        module = DSRLModule.of(pl_module)
        if module.phase.number != self.phase:
            self.phase, self.history = module.phase.number, []
        fresh = module.validated_at == module.iteration + 1
        metrics = {**module.metrics, **(module.validated if fresh else {})}
        try:
            asked = {label: ask(monitor, metrics, self.history) for label, monitor in self.monitors.items()}
        finally:
            self.ended = module.iteration
            self.history.append(metrics)
        found: dict[str, EarlyWarning | None] = trainer.strategy.broadcast(asked)
        for label, warning in found.items():
            if warning is None:
                continue
            module.log(f"warnings/{label}", 1.0, batch_size=1)
            action = self._action_of(label, module)
            if not self._knows(label, action):
                self._act(trainer, module, label, action, warning)

    def state_dict(self) -> dict[str, Any]:
        """Save what a resumed run needs."""
        return {"phase": self.phase, "history": [dict(line) for line in self.history], "given": list(self.given)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.phase = int(state_dict["phase"])
        self.history, self.given = list(state_dict["history"]), list(state_dict["given"])

    def _action_of(self, label: str, module: DSRLModule) -> str:
        """Return what a warning of a monitor does now: in the last phase there is nothing to hand off to."""
        action = self.monitors[label].action
        return "warn" if action == "handoff" and self.phase == len(module.config.phases) else action

    def _knows(self, label: str, action: str) -> bool:
        """Whether a monitor has been told of in this phase, and has done what it would do now."""
        done = [line["action"] for line in self.given if (line["phase"], line["monitor"]) == (self.phase, label)]
        return action in done or (action == "warn" and bool(done))

    def _act(self, trainer: L.Trainer, module: DSRLModule, label: str, action: str, warning: EarlyWarning) -> None:
        following = module.iteration + 1
        line = {"iteration": module.iteration, "phase": self.phase, "monitor": label, "action": action}
        self.given.append({**line, **dataclasses.asdict(warning)})
        self._write(trainer)
        if action == "handoff":
            self.scheduler.hand_off(f"monitor {label} warned in iteration {module.iteration}")
        elif action == "stop":
            trainer.should_stop = True
        if trainer.is_global_zero:
            goes_on = "" if following < module.config.iterations else ", if the run goes on"
            consequence = {
                "handoff": f" Phase {self.phase + 1} begins with iteration {following}{goes_on}.",
                "stop": " The run ends here, with a checkpoint.",
            }.get(action, "")
            self.console.print(
                f"[yellow]warning, {escape(label)}: {escape(warning.figure)}. {escape(warning.why)} "
                f"{escape(warning.remedy)}{consequence}[/]",
                soft_wrap=True,
            )

    def _write(self, trainer: L.Trainer) -> None:
        """Write warnings.jsonl anew: few lines, and those of a resumed run are the ones in its checkpoint."""
        if trainer.is_global_zero:
            with atomic(self.folder / "warnings.jsonl") as partial:
                partial.write_text("".join(map(text_of, self.given)), encoding="utf-8")
