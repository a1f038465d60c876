"""What a person sees of a run while it goes on: a bar, a line for each iteration, and a summary."""

from __future__ import annotations

import dataclasses
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from rich.console import Console
from rich.markup import escape
from rich.progress import TaskID
from rich.text import Text

from dsrl.data.first_prompt import shown_prompt
from dsrl.devices import described_precision, precision_of
from dsrl.loop.callbacks import callbacks_among
from dsrl.loop.module import DSRLModule
from dsrl.parallel.sharding import parameter_count
from dsrl.phases.scheduler import Begun, PhaseScheduler
from dsrl.reports.reading import read_run
from dsrl.reports.text import summary_of
from dsrl.runs.going_on import command_to_go_on
from dsrl.runs.rescue import Rescue
from dsrl.runs.terminal import progress_bar, terminal

COLUMNS = {
    "reward/mean": ("reward", "{:.3f}"),
    "kept/fraction": ("kept", "{:.2f}"),
    "response/length_mean": ("length", "{:.1f}"),
    "thoughts/reflection/per_answer": ("reflect", "{:.2f}"),
    "loss": ("loss", "{:+.4f}"),
    "grad_norm": ("norm", "{:.2f}"),
}


class Progress(L.Callback):
    """Show a progress bar, and above it a line for each iteration, handoff and validation. Rank 0 alone prints."""

    def __init__(self, folder: Path, console: Console | None = None) -> None:
        self.folder = folder
        self.console = console or terminal()
        self.bar = progress_bar(self.console)
        self.task: TaskID | None = None
        self.began = time.perf_counter()
        self.phase = 0
        self.ran = 0  # iterations of this process
        self.trained_since = self.began

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what is about to run."""
        module = DSRLModule.of(pl_module)
        size = parameter_count(module.policy)
        if trainer.is_global_zero:
            config = module.config
            self.console.print(
                f"[bold]dsrl[/]  {escape(config.model.name)} ({size / 1e6:.1f}M parameters) on {module.device.type} in "
                f"{described_precision(config.trainer)}, {config.iterations} iterations of "
                f"{config.prompts_per_iteration} prompts x {config.responses_per_prompt} responses\n"
                f"{_start_of(module)}run folder: {escape(str(self.folder))}",
                soft_wrap=True,
            )
            shown = shown_prompt("first prompt", module.data.first_rows()["data.train"], module.encoder)
            self.console.print(shown, soft_wrap=True, markup=False)
            self.bar.start()
            self.task = self.bar.add_task("validation", total=module.config.iterations, status="")

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say where a resumed run computes in another precision than before, as on another machine it may."""
        saved, now = checkpoint["dsrl"], precision_of(DSRLModule.of(pl_module).config.trainer)
        before = saved.get("precision", saved["config"]["trainer"]["precision"])  # of version 0.2 the setting itself
        if trainer.is_global_zero and before != now:
            self.console.print(f"[yellow]it goes on in {now}; the checkpoint was written by a run in {before}[/]")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the bar to the iterations that are done: some, after a resume."""
        self.trained_since = time.perf_counter()
        if self.task is None:
            return
        self.bar.update(self.task, completed=trainer.current_epoch, description="training")
        if trainer.ckpt_path is not None:
            for line in _resumed(trainer):
                self.console.print(line, markup=False, soft_wrap=True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print the iteration's line."""
        module = DSRLModule.of(pl_module)
        if self.task is None:
            return
        self.ran += 1
        if module.phase.number != self.phase:
            self.phase = module.phase.number
            told = phase_line(module, PhaseScheduler.begun(trainer)[self.phase - 1])
            self.console.print(told, soft_wrap=True)
        numbers = "  ".join(
            f"[dim]{label}[/] {form.format(module.metrics[key])}"
            for key, (label, form) in COLUMNS.items()
            if key in module.metrics  # thoughts are those of the classes that are looked for
        )
        self.console.print(f"{module.iteration:>4}  {numbers}  [dim]{self._pace(module)}[/]")
        status = f"phase {self.phase} {module.phase.name}  reward {module.metrics['reward/mean']:.3f}"
        self.bar.update(self.task, advance=1, status=status)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show that the pause is a validation."""
        if self.task is not None:
            self.bar.update(self.task, description="validation")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the validation's line."""
        module = DSRLModule.of(pl_module)
        if self.task is None:
            return
        done = module.validated_at
        numbers = "  ".join(f"{escape(key.removeprefix('val/'))} [bold]{value:.3f}[/]" for key, value in _shown(module))
        self.console.print(f"[cyan]validation after {done} iterations:[/] {numbers}")
        self.bar.update(self.task, description="training")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the summary."""
        if self.task is None:
            return
        self.bar.stop()
        for part in summary_of(read_run(self.folder, samples=False)):
            self.console.print(part, soft_wrap=isinstance(part, Text))
        done, iterations = trainer.current_epoch, DSRLModule.of(pl_module).config.iterations
        if done < iterations:
            self.console.print(
                f"stopped after {done} of {iterations} iterations: `{command_to_go_on(self.folder)}` goes on",
                markup=False,
                soft_wrap=True,
            )
            return
        minutes, seconds = divmod(time.perf_counter() - self.began, 60)
        self.console.print(
            f"done in {minutes:.0f} min {seconds:.0f} s: {self.folder}/metrics.jsonl, samples.jsonl, "
            f"hf/ (the policy, for AutoModelForCausalLM.from_pretrained)",
            markup=False,
            soft_wrap=True,
        )

    def _pace(self, module: DSRLModule) -> str:
        """Seconds, tokens a second, the memory of a GPU, and how long the iterations that are left will take."""
        found = module.metrics
        parts = [f"{found['time/iteration']:.1f} s", f"{found['throughput/tokens_per_second']:.0f} tok/s"]
        if "memory/reserved_gib" in found:
            parts.append(f"{found['memory/reserved_gib']:.1f} GiB")
        left = module.config.iterations - module.iteration - 1
        if left:
            seconds = (time.perf_counter() - self.trained_since) / self.ran * left
            parts.append(f"{timedelta(seconds=round(seconds))} left")
        return ", ".join(parts)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was, and say after Ctrl-C, which has no message, from where the run goes on."""
        self.bar.stop()
        said = next((rescue.said for rescue in callbacks_among(trainer, Rescue)), "")
        if self.task is not None and said and not isinstance(exception, Exception):
            self.console.print(f"interrupted; {said}", markup=False, soft_wrap=True)


def _resumed(trainer: L.Trainer) -> list[str]:
    """Say from which checkpoint a run goes on, where, and when the phases before the one that it is in began."""
    *earlier, now = PhaseScheduler.begun(trainer)
    return [
        f"resumed from {trainer.ckpt_path}: going on at iteration {trainer.current_epoch} of {trainer.max_epochs} in "
        f"phase {now.phase.number} ({now.phase.name})",
        *(
            f"phase {before.phase.number}: {before.phase.name} began with iteration {before.start}"
            f"{f', since {before.reason}' if before.reason else ''}"
            for before in earlier
        ),
    ]


def phase_line(module: DSRLModule, begun: Begun) -> str:
    """Say which phase begins, or began before a resume; why the one before ended; what of the sampling is other."""
    phase, reason = begun.phase, begun.reason
    parts = [f"from iteration {begun.start}, lr {module.metrics['lr']:.2g}"]
    if phase.number > 1:
        before, now = (dataclasses.asdict(found.sampling) for found in (module.config.phases[phase.number - 2], phase))
        parts += [f"sampling.{key} {before[key]} → {now[key]}" for key in before if before[key] != now[key]]
    if reason:
        parts.append(f"since {reason}")
    return f"[bold magenta]phase {phase.number}: {escape(phase.name)}[/] {escape(', '.join(parts))}"


def _start_of(module: DSRLModule) -> str:
    """The line that names the start token; empty where nothing is scored in the marginal space."""
    terms = [term for phase in module.config.phases for _, term in phase.objective.terms]
    if all(term.space != "marginal" for term in terms):
        return ""
    token = str(module.encoder.tokenizer.convert_ids_to_tokens(module.encoder.start_token_id))
    return f"P(y) starts from {escape(token)}\n"


def _shown(module: DSRLModule) -> list[tuple[str, float]]:
    """avg@k and pass@k of each set: the ends of the list."""
    k = module.config.validation.k
    return [(key, value) for key, value in module.validated.items() if key.endswith((f"/avg@{k}", f"/pass@{k}"))]
