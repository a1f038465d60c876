"""Save the last finished iteration when a run fails, and say from where it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import lightning as L

from dsrl.loop.callbacks import callbacks_among
from dsrl.loop.metrics import add_metrics
from dsrl.loop.module import DSRLModule
from dsrl.parallel.failing import FailingRank
from dsrl.parallel.strategy import LoopStrategy
from dsrl.parallel.watchdog import Watchdog, follows_from_another
from dsrl.phases.scheduler import PhaseScheduler
from dsrl.registry.blame import is_foreign
from dsrl.runs.checkpoints import Checkpoints
from dsrl.runs.finished import Finished
from dsrl.runs.going_on import command_to_export, command_to_go_on
from dsrl.runs.monitoring import Monitoring
from dsrl.runs.recording import Recording
from dsrl.runs.resume import iterations_done_at, newest_checkpoint
from dsrl.runs.run_folder import RunFolder
from dsrl.storage.disk_errors import system_error_in
from dsrl.storage.folder_lock import FolderLock

ENDING = (Monitoring, RunFolder, PhaseScheduler, Checkpoints)
"""Callbacks without which no iteration ends; the trainer's have this order."""


class Rescue(L.Callback):
    """Write the checkpoint of the last finished iteration after any exception, where there is none and the weights are
    still those.

    The file is the one that `checkpoint.every=1` would have written. An iteration whose optimizer steps are over is
    brought to its end first: its line is written, and the next phase is decided. A validation after it that is not over
    is made when the run goes on; the iteration is not saved where that phase, or the best checkpoint, depends on it. In
    the midst of the optimizer steps nothing can be saved. This callback comes before Watchdog, which ends other ranks.

    Of several ranks, one saves for all where each holds all of the model. Where each holds a part, all save together if
    they failed alike, such as by a gradient that is not finite.

    Attributes:
        said: from where the run goes on, after an exception; empty where nothing was trained yet.
    """

    def __init__(self, checkpoints: Checkpoints, watchdog: Watchdog) -> None:
        self.checkpoints, self.watchdog = checkpoints, watchdog
        self.said = ""
        self._began = False
        self._writing: Finished | None = None
        self._left_out = ""  # of an iteration that was brought to its end
        self._owed: int | None = None  # the iteration after which a validation is missing

    def state_dict(self) -> dict[str, Any]:
        """Save whether a validation is missing."""
        return {} if self._owed is None else {"validation_after": self._owed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self._owed = state_dict.get("validation_after")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note that training has begun."""
        self._began = True

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make the validation that is missing, as it would have been made after its iteration."""
        if self._owed is None:
            return
        (folder,) = callbacks_among(trainer, RunFolder)
        loops: Any = trainer.fit_loop
        with folder.validating_again(trainer, self._owed):
            loops.epoch_progress.current.completed = self._owed
            loops.epoch_loop.val_loop.restarting = False
            trainer.validating = True
            loops.epoch_loop.val_loop.run()
            trainer.training = True
            loops.epoch_progress.current.completed = self._owed + 1
        self._owed = None

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the remembered state in place of that in which the run failed."""
        if self._writing is not None:
            self._writing.put_into(checkpoint)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save what can be saved, and say from where the run goes on. The exception stays the one that is told."""
        if self.watchdog.over.is_set() or not self._began:
            return
        module = DSRLModule.of(pl_module)
        with self._time_to_save(trainer):
            try:
                self.said = self._rescued(trainer, module, exception)
            except Exception as failure:
                said = self._going_on(module), f"no checkpoint could be saved after this failure: {failure}"
                self.said = "\n".join(filter(None, said))

    def _rescued(self, trainer: L.Trainer, module: DSRLModule, exception: BaseException) -> str:
        """Save, on the ranks that can; returns what to say."""
        strategy, store = trainer.strategy, self.watchdog.store
        assert isinstance(strategy, LoopStrategy)
        with suppress(Exception):  # of a checkpoint that is being written: it is there or not
            strategy.finish_saving()
        if module.updated is not None and trainer.world_size == 1:
            module._current_fx_name = "training_step"  # as Lightning does, for what is logged
            experience, found = module.updated
            module.log_metrics(experience, add_metrics(*found))
            self._left_out = f"; what is measured after the update of iteration {module.measured_at} is left out"
        if not self._is_sound(trainer, module, exception):
            leaves_it_to_another = strategy.replicated and not trainer.is_global_zero
            return "" if leaves_it_to_another else self._going_on(module)
        if store is None:
            return self._saved(trainer, module)
        failing = FailingRank(store, trainer.global_rank, trainer.world_size)
        if not strategy.replicated:
            alike = not follows_from_another(exception) and failing.all_alike(exception, trainer.current_epoch)
            return self._saved(trainer, module) if alike else self._going_on(module)
        if not failing.is_writer():
            return failing.wait_for_writer()
        said = ""
        try:
            with strategy.on_its_own():
                said = self._saved(trainer, module)
        finally:
            failing.tell(said or self._going_on(module))
        return said

    def _is_sound(self, trainer: L.Trainer, module: DSRLModule, exception: BaseException) -> bool:
        """Whether this rank holds what a checkpoint of a finished iteration, or of one that it can end, lacks."""
        finished = self.checkpoints.finished
        if finished is None or (self.checkpoints.saving and system_error_in(exception)):
            return False
        run_dir = module.config.run_dir
        if not (run_dir / "config.yaml").exists():
            return False  # a folder that is gone is not made again
        if not trainer.is_global_zero and not FolderLock(run_dir).path.exists():
            return False  # of another host, without a file system in common
        if module.measured_at > finished.iteration:
            return self._can_end(trainer, module)
        newest = newest_checkpoint(self.checkpoints.folder)
        if finished.iteration < 0 or (newest and iterations_done_at(newest) > finished.iteration):
            return False
        now = Finished.now(trainer, module)
        return (now.steps, now.entered) == (finished.steps, finished.entered)

    def _can_end(self, trainer: L.Trainer, module: DSRLModule) -> bool:
        """Whether the iteration under way, whose optimizer steps are over, can come to the end that it would have come
        to.
        """
        replicated = getattr(trainer.strategy, "replicated", False)
        (folder,), (scheduler,) = callbacks_among(trainer, RunFolder), callbacks_among(trainer, PhaseScheduler)
        if replicated and not trainer.is_global_zero:
            return False  # rank 0 writes the lines
        if replicated and trainer.world_size > 1 and callbacks_among(trainer, Recording):
            return False  # each rank writes its own
        if trainer.validating and any(map(_may_swap_weights, callbacks_among(trainer, L.Callback))):
            return False
        if trainer.is_global_zero and folder.ended == module.measured_at and not folder.has_written(module.measured_at):
            return False
        best = self.checkpoints.config.best
        waits = scheduler.ended < module.measured_at and scheduler.waits_for_validation
        waits |= best is not None and best.startswith("val/")
        return not (waits and self._misses_validation(module))

    def _saved(self, trainer: L.Trainer, module: DSRLModule) -> str:
        """Write the checkpoint; returns what to say."""
        finished = self.checkpoints.finished
        assert finished is not None
        if module.measured_at > finished.iteration:
            self._end_iteration(trainer, module, finished)
        else:
            finished.restore_into(trainer, module)
            self._writing = finished
            self.checkpoints.save(trainer, finished.iteration)
        return self._going_on(module)

    def _end_iteration(self, trainer: L.Trainer, module: DSRLModule, finished: Finished) -> None:
        """Do what is left of the iteration under way, by the callbacks that it needs."""
        iteration = module.measured_at
        misses_validation = self._misses_validation(module)
        trainer.training = trainer.should_stop = True  # which lets Checkpoints save
        (folder,) = callbacks_among(trainer, RunFolder)
        writers: list[RunFolder | Recording] = [folder, *callbacks_among(trainer, Recording)]
        for writer in writers:
            if not writer.has(iteration):
                writer.on_train_batch_end(trainer, module, None, None, 0)
        if module.validated_at == iteration + 1 and not folder.has_validation(iteration):
            folder.on_validation_end(trainer, module)
        self._owed = iteration if misses_validation else None
        finished.end_iteration(trainer)
        module._current_fx_name = "on_train_epoch_end"  # as Lightning does, for what is logged
        for callback in callbacks_among(trainer, L.Callback):
            if isinstance(callback, ENDING) and callback.ended < iteration:
                callback.on_train_epoch_end(trainer, module)
        if misses_validation:
            last = iteration + 1 == module.config.iterations
            what = "; left out is" if last else ", and begins with"
            self._left_out += f"{what} the validation after iteration {iteration}"

    def _misses_validation(self, module: DSRLModule) -> bool:
        """Whether a validation belongs to the iteration under way, and was not over."""
        config, done = module.config, module.measured_at + 1
        every = config.validation.every if module.data.val_names else 0
        due = every > 0 and (done % every == 0 or done == config.iterations)
        return due and module.validated_at != done

    def _going_on(self, module: DSRLModule) -> str:
        """Say from where the run goes on, and by which command."""
        config, ended = module.config, self.checkpoints.ended
        if not (config.run_dir / "config.yaml").exists():
            return f"{config.run_dir} is gone, with what was in it: the command that began the run starts it again"
        newest, command = newest_checkpoint(self.checkpoints.folder), command_to_go_on(config.run_dir)
        if newest is None and max(ended, module.measured_at) < 0:
            return ""  # nothing is lost: the same command does what it did
        if newest is None:
            origin = "the beginning" if config.resume in (None, "last") else config.resume
            return f"there is no checkpoint yet: `{command}` starts again from {origin}"
        done, iterations = iterations_done_at(newest), config.iterations
        if done >= iterations:
            export = f", and `{command_to_export(newest, config.run_dir)}` writes its policy to hf/"
            missing = not (config.run_dir / "hf").exists()
            return f"all {iterations} iterations are saved in {newest}{export if missing else ''}{self._left_out}"
        if done > max(ended, module.measured_at):
            return f"saved after {done} of {iterations} iterations: `{command}` goes on{self._left_out}"
        under_way = min(ended + 1, iterations - 1)
        again = f"iteration {done}" if done == under_way else f"iterations {done} to {under_way}"
        return f"`{command}` goes on from {newest.name}, and runs {again} again"

    @contextmanager
    def _time_to_save(self, trainer: L.Trainer) -> Iterator[None]:
        """Keep watchdog and launcher from ending this process for another's failure."""
        holders: list[Any] = [self.watchdog, trainer.strategy.launcher]
        for holder in filter(None, holders):
            holder.saves = True
        try:
            yield
        finally:
            for holder in filter(None, holders):
                holder.saves = False


def _may_swap_weights(callback: L.Callback) -> bool:
    """Whether a callback may have put other weights in place while a validation lasts, as one that averages does."""
    hooks = ("on_validation_start", "on_validation_epoch_start")
    return is_foreign(callback) and any(
        getattr(type(callback), hook) is not getattr(L.Callback, hook) for hook in hooks
    )
