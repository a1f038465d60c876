"""The run folder: config.yaml, metrics.jsonl, samples.jsonl, validations.jsonl, and at the end hf/."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
from omegaconf import OmegaConf

from dsrl.loop.callbacks import callbacks_among
from dsrl.loop.module import DSRLModule
from dsrl.parallel.collectives import gather
from dsrl.parallel.strategy import wait_for_all
from dsrl.phases.scheduler import PhaseScheduler
from dsrl.runs.hf_folder import write_hf
from dsrl.runs.lines import read_lines, text_of
from dsrl.runs.loggers import log_samples
from dsrl.runs.metrics_csv import MetricsCSV
from dsrl.runs.preemption import Preemption
from dsrl.runs.resume import changes
from dsrl.runs.samples import answered_questions, questions_line, training_samples, validation_samples
from dsrl.storage.atomic import atomic
from dsrl.storage.disk_errors import writing
from dsrl.storage.folder_lock import FolderLock

LINES = ("metrics.jsonl", "samples.jsonl", "validations.jsonl", "verifier_failures.jsonl")
"""Files of the folder with lines of iterations."""
OF_VALIDATION = {"set", "iterations_done"}
"""Keys that lines of validations alone have."""


class RunFolder(L.Callback):
    """Write what a run leaves behind; rank 0 alone writes.

    metrics.jsonl has a line for each iteration, and a line of its own for each validation. The `iteration` of a line,
    from 0, is the one that it belongs to: a validation belongs to the iteration before it, and that before any update
    to -1. What other callbacks log in an iteration is in its line. validations.jsonl has a line for each validation and
    set, question by question. After a resume, the lines of iterations that run again are cut off.

    Args:
        folder: the run folder.
        config: as plain values, written to config.yaml.
        samples: how many responses of each iteration, and of each set of a validation, are written to samples.jsonl.
        lock: of the folder. Where it is not held when the trainer begins, this callback holds it while it runs.
    """

    def __init__(
        self, folder: Path, *, config: Mapping[str, Any], samples: int, lock: FolderLock | None = None
    ) -> None:
        self.folder, self.config, self.samples = folder, config, samples
        self._lock, self._locks = lock or FolderLock(folder), False
        self._tables: list[MetricsCSV] = []
        self._lines: list[dict[str, Any]] = []  # of the iteration under way: its own, and that of the validation after
        self._logged: dict[str, Any] = {}  # before the iteration under way
        self._asked: dict[str, list[dict[str, Any]]] = {}  # this rank's questions of the validation under way, by set
        self._has_begun = False  # with the validation before any update; else what it left is of an earlier start
        self.ended = -1  # the last iteration whose line was to be written

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Lock the folder, unless `dsrl.fit` has; find the tables that follow metrics.jsonl."""
        self._tables = [logger for logger in trainer.loggers if isinstance(logger, MetricsCSV)]
        if trainer.is_global_zero and not self._lock.held:
            self._lock.acquire()
            self._locks = True

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let go of the folder."""
        if self._locks:
            self._lock.release()
            self._locks = False

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let go of the folder."""
        self.teardown(trainer, pl_module, "fit")

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make the folder and write config.yaml."""
        self._write_config(trainer, "")

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write at the top of config.yaml what has changed since the checkpoint was written."""
        changed = changes(DSRLModule.of(pl_module).config, checkpoint)
        if changed:
            told = "".join(f"#   {key}: {before!r} -> {after!r}\n" for key, before, after in changed)
            self._write_config(trainer, f"# Resumed from {trainer.ckpt_path}, with\n{told}")

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin without lines: the run starts from the beginning."""
        self._cut(trainer, lambda line: False)
        self._has_begun = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Drop hf/, and the lines of iterations that are about to run (again)."""
        first = trainer.current_epoch or (0 if self._has_begun else -1)
        if trainer.is_global_zero and first > 0:  # of a run that was finished and goes on: no longer the newest policy
            shutil.rmtree(self.folder / "hf", ignore_errors=True)
        self._cut(trainer, lambda line: line["iteration"] < first)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember what has been logged before this iteration."""
        self._logged = dict(trainer.callback_metrics)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write some of the iteration's responses, and keep its line until other callbacks have logged theirs."""
        module = DSRLModule.of(pl_module)
        assert module.experience is not None
        phase, iteration = module.phase, module.iteration
        head = {"iteration": iteration, "phase": phase.number, "objective": phase.name}
        reason = PhaseScheduler.reason_at(trainer, iteration)
        self._lines.append({**head, **({"handoff_reason": reason} if reason else {}), **module.metrics})
        if trainer.is_global_zero:
            samples = training_samples(module.experience, self.samples, module.encoder.tokenizer)
            lines = [{**head, **sample} for sample in samples]
            self._append(trainer, "samples.jsonl", *lines)
            log_samples(trainer, "samples/train", lines, step=iteration)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write some of the responses to the questions of each set that come first, and remember how all were."""
        self._asked.setdefault(outputs["set"], []).extend(answered_questions(outputs["batch"]))
        if trainer.is_global_zero and batch_idx == 0:
            iteration = -1 if trainer.sanity_checking else trainer.current_epoch
            samples = validation_samples(outputs["set"], outputs["batch"], self.samples)
            lines = [{"iteration": iteration, **sample} for sample in samples]
            self._append(trainer, "samples.jsonl", *lines)
            log_samples(trainer, f"samples/{outputs['set']}", lines, step=iteration + 1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what is known of each question, and keep the validation's line; write that at once, too, where no
        iteration has run before.
        """
        module = DSRLModule.of(pl_module)
        asked, self._asked = gather(self._asked), {}
        if module.validated:
            head = {"iteration": module.validated_at - 1, "iterations_done": module.validated_at}
            self._lines.append({**head, **module.validated})
            for name in module.data.val_names:
                every = list(chain.from_iterable(own.get(name, []) for own in asked))
                line = {**head, "set": name, "k": module.config.validation.k, **questions_line(every)}
                self._append(trainer, "validations.jsonl", line)
        if trainer.sanity_checking:
            self._write_lines(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the iteration's line, and that of the validation after it."""
        module = DSRLModule.of(pl_module)
        own = {*module.metrics, *module.validated, "phase", "step"}
        # What was logged in an earlier iteration and not in this one is the same object as when this one began.
        fresh = {key: value for key, value in trainer.callback_metrics.items() if self._logged.get(key) is not value}
        self._lines[0] |= {key: float(value) for key, value in fresh.items() if key not in own}
        self.ended = module.iteration
        self._write_lines(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the final policy to hf/, as `AutoModelForCausalLM.from_pretrained` reads it."""
        module = DSRLModule.of(pl_module)
        if any(preemption.received for preemption in callbacks_among(trainer, Preemption)):
            return  # stopped by a signal: the run goes on another time
        tensors = module.policy.named_tensors()
        if trainer.is_global_zero:
            write_hf(self.folder / "hf", module.config.model, tensors, module.encoder.tokenizer, module.provenance)
        for _ in tensors:  # what rank 0 reads, every rank has a part in
            pass
        wait_for_all(trainer.strategy)

    @contextmanager
    def validating_again(self, trainer: L.Trainer, iteration: int) -> Iterator[None]:
        """Surround a validation after an iteration that is on disk: what one that failed has left is dropped."""
        self._cut(trainer, lambda line: line["iteration"] != iteration or not OF_VALIDATION & {*line})
        yield
        self._write_lines(trainer)

    def has(self, iteration: int) -> bool:
        """Whether this callback has seen the end of an iteration's update."""
        return self.ended == iteration or any(line["iteration"] == iteration for line in self._lines)

    def has_validation(self, iteration: int) -> bool:
        """Whether it has seen the end of the validation after an iteration."""
        return self.ended == iteration or any("iterations_done" in line for line in self._lines)

    def has_written(self, iteration: int) -> bool:
        """Whether an iteration's line is in metrics.jsonl."""
        return any(line["iteration"] == iteration for line in read_lines(self.folder / "metrics.jsonl"))

    def _write_config(self, trainer: L.Trainer, head: str) -> None:
        if trainer.is_global_zero:
            with atomic(self.folder / "config.yaml") as partial:
                partial.write_text(head + OmegaConf.to_yaml(OmegaConf.create(dict(self.config))))

    def _write_lines(self, trainer: L.Trainer) -> None:
        self._append(trainer, "metrics.jsonl", *self._lines)
        self._follow(trainer, self._lines)
        self._lines = []

    def _follow(self, trainer: L.Trainer, added: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Bring the tables of metrics.jsonl up to it."""
        for table in self._tables if trainer.is_global_zero else ():
            table.follow(self.folder / "metrics.jsonl", added)

    def _append(self, trainer: L.Trainer, name: str, *lines: Mapping[str, Any]) -> None:
        if trainer.is_global_zero:
            path = self.folder / name
            with writing(path), path.open("a", encoding="utf-8") as file:
                file.writelines(map(text_of, lines))

    def _cut(self, trainer: L.Trainer, keeps: Callable[[dict[str, Any]], bool]) -> None:
        """Rewrite the files, atomically, with the lines that it `keeps`, as they are written today."""
        for name in LINES if trainer.is_global_zero else ():
            path = self.folder / name
            if path.exists():
                kept = filter(keeps, read_lines(path))
                with atomic(path) as partial:
                    partial.write_text("".join(map(text_of, kept)), encoding="utf-8")
        self._follow(trainer)
