"""Where the parts of a run meet: module, data, callbacks, loggers, Lightning's Trainer."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import transformers

from dsrl.config.run_config import RunConfig
from dsrl.data.datamodule import PromptData
from dsrl.errors import DSRLError
from dsrl.loop.callbacks import callbacks_among
from dsrl.loop.module import DSRLModule
from dsrl.models.policy import Policy
from dsrl.parallel.choose import lightning_precision, strategy_for
from dsrl.parallel.first_process import is_first_process
from dsrl.parallel.watchdog import Watchdog
from dsrl.phases.scheduler import PhaseScheduler
from dsrl.planning.admission import SameBudget
from dsrl.registry.blame import PartError
from dsrl.runs.checkpoints import Checkpoints
from dsrl.runs.lightning_objects import callbacks_of, loggers_of, own_arguments
from dsrl.runs.lines import read_lines
from dsrl.runs.loggers import ToLoggers
from dsrl.runs.monitoring import Monitoring
from dsrl.runs.preemption import Preemption
from dsrl.runs.progress import Progress
from dsrl.runs.recording import Recording
from dsrl.runs.report import Report
from dsrl.runs.rescue import Rescue
from dsrl.runs.run_folder import RunFolder
from dsrl.runs.start import start_of
from dsrl.runs.verifier_failures import VerifierFailures
from dsrl.storage.disk_errors import UnwritableError, is_of_disk, system_error_in
from dsrl.storage.folder_lock import FolderLock


@dataclass(frozen=True, kw_only=True)
class Run:
    """What `fit` returns.

    Attributes:
        folder: the run folder.
        config: the configuration.
        trainer: Lightning's, after the run.
        module: policy, reference, and the experience of the last iteration.
    """

    folder: Path
    config: RunConfig
    trainer: L.Trainer
    module: DSRLModule

    @property
    def policy(self) -> Policy:
        """The trained policy; `policy.model` is the model of transformers."""
        return self.module.policy

    @property
    def stopped_by(self) -> signal.Signals | None:
        """The signal that the run was told to stop by, after which it saved; None where it went to its end."""
        return callbacks_among(self.trainer, Preemption)[0].received

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A row for each iteration, from metrics.jsonl: `pandas.DataFrame(run.metrics)`."""
        return [line for line in read_lines(self.folder / "metrics.jsonl") if "reward/mean" in line]

    @property
    def validations(self) -> list[dict[str, Any]]:
        """A row for each validation, from metrics.jsonl: `iteration` is the one before it, -1 before the first, and
        `iterations_done` one more.
        """
        return [line for line in read_lines(self.folder / "metrics.jsonl") if "reward/mean" not in line]

    @property
    def samples(self) -> list[dict[str, Any]]:
        """A row for each response of training that was written to samples.jsonl."""
        return [line for line in read_lines(self.folder / "samples.jsonl") if "set" not in line]

    @property
    def validation_samples(self) -> list[dict[str, Any]]:
        """A row for each response of a validation that was written to samples.jsonl; `set` names the set."""
        return [line for line in read_lines(self.folder / "samples.jsonl") if "set" in line]


def build_trainer(
    config: RunConfig,
    *,
    callbacks: Sequence[L.Callback] = (),
    resumes: bool = False,
    lock: FolderLock | None = None,
) -> tuple[L.Trainer, DSRLModule, PromptData]:
    """Put trainer, module and data together, ready for `trainer.fit(module, data)`. One epoch is one iteration.

    Args:
        config: made by `compose`.
        callbacks: of one's own; what they log is in metrics.jsonl.
        resumes: whether a checkpoint is loaded; a run from the beginning validates first.
        lock: of the run folder, where the caller holds it already.
    """
    _quiet()
    L.seed_everything(config.seed, verbose=False)
    checkpoints = config.run_dir / "checkpoints"
    data = PromptData.of(config)
    data.setup("fit")
    validates = config.validation.every > 0 and bool(data.val_names)
    watchdog, saving = Watchdog(config.trainer.timeout), Checkpoints(checkpoints, config.checkpoint)
    scheduler = PhaseScheduler(config.phases, checkpoints, before_handoff=saving.save_best)
    progress = Progress(config.run_dir)
    rescue = Rescue(saving, watchdog)
    trainer = L.Trainer(
        strategy=strategy_for(config.trainer, config.checkpoint),
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        precision=lightning_precision(config.trainer),  # type: ignore[arg-type]
        max_epochs=config.iterations,
        num_sanity_val_steps=-1 if validates and not resumes else 0,  # the whole validation, before any update
        check_val_every_n_epoch=config.validation.every or 1,
        limit_val_batches=1.0 if validates else 0,
        callbacks=[
            rescue,
            watchdog,
            SameBudget(config.update.micro_batch_tokens),
            Preemption(),
            ToLoggers(),
            *callbacks_of(config),
            *callbacks,
            Monitoring(config.monitors, config.run_dir, scheduler=scheduler, console=progress.console),
            # An iteration's line comes after what other callbacks log, and before any checkpoint of it.
            RunFolder(
                config.run_dir,
                config=config.resolved,
                samples=config.logged_samples,
                lock=lock,
            ),
            VerifierFailures(config.run_dir, progress.console),
            *([Recording(config.run_dir)] if config.record == "all" else []),
            scheduler,
            progress,
            Report(config.run_dir, writes=config.report),
            saving,
        ],
        logger=loggers_of(config),
        **own_arguments(config.trainer, config.run_dir),
        log_every_n_steps=1,
        inference_mode=False,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=config.run_dir,
    )
    return trainer, DSRLModule(config), data


def fit(config: RunConfig, *, callbacks: Sequence[L.Callback] = ()) -> Run:
    """Train from the first iteration, or from where `resume` says, to the last.

    Args:
        config: made by `compose`.
        callbacks: Lightning callbacks of one's own, beside those of `config.callbacks`.

    Returns:
        The run: `run.metrics` (rows for pandas), `run.policy`, `run.folder`.

    Raises:
        ConfigError: the run folder holds a run already, or one that goes on; or what is asked for cannot be loaded.
        DSRLError: another rank's end has ended this one, or something cannot be written; the message names the cause.
        KeyboardInterrupt: it was stopped from the keyboard, and all is saved.
    """
    lock = FolderLock(config.run_dir)
    if is_first_process(config.trainer.devices * config.trainer.num_nodes):
        lock.acquire()
    try:
        return _fit(config, callbacks, lock)
    finally:
        lock.release()


def _fit(config: RunConfig, callbacks: Sequence[L.Callback], lock: FolderLock) -> Run:
    config, checkpoint = start_of(config)
    trainer, module, data = build_trainer(config, callbacks=callbacks, resumes=checkpoint is not None, lock=lock)
    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except Exception as error:
        watchdog, rescue = callbacks_among(trainer, Watchdog)[0], callbacks_among(trainer, Rescue)[0]
        followed = watchdog.verdict and not isinstance(error, DSRLError)
        told = DSRLError(watchdog.verdict) if followed else _told(error, config.run_dir)
        if isinstance(told, PartError) or not isinstance(told, DSRLError):
            told.add_note(f"in phase {module.phase.number}, iteration {trainer.current_epoch}")
        for line in rescue.said.splitlines():
            told.add_note(line)
        if told is error:
            raise
        raise told from error
    finally:
        module.threads.restore()
    if callbacks_among(trainer, Preemption)[0].received == signal.SIGINT:
        raise KeyboardInterrupt
    return Run(folder=config.run_dir, config=config, trainer=trainer, module=module)


def _told(error: Exception, run_dir: Path) -> Exception:
    """The error that is told: the first of its chain that names what cannot be written, or else what the system says of
    the disk; loggers that end with the run fail a second time."""
    own: BaseException | None = error
    while own is not None:
        if isinstance(own, UnwritableError):
            return own
        own = own.__context__
    cause = system_error_in(error)
    return UnwritableError.of(run_dir, cause) if cause is not None and is_of_disk(cause, run_dir) else error


def _quiet() -> None:
    """Silence what Lightning says at every start and what is by design here; errors and the rest stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for message in (
        ".*does not have many workers.*",
        ".*when logging on epoch level in distributed setting.*",  # what is logged is global already
        ".*in eval mode at the start of training.*",
        ".*`isinstance.treespec, LeafSpec.` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)
