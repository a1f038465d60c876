"""Record every rollout of a run, so that another run can train on them: `record=all`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from dsrl.loop.module import DSRLModule
from dsrl.storage.rollout_files import RecordHead, record_path, recorded_files, write_rollouts
from dsrl.types import Rewards


class Recording(L.Callback):
    """Write all responses of an iteration to the folder `rollouts`, each rank its own, before any checkpoint of it.

    After a resume, the files of iterations that run again are removed.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "rollouts"
        self.ended = -1  # the last iteration whose responses are written

    def has(self, iteration: int) -> bool:
        """Whether the responses of an iteration are written."""
        return self.ended == iteration

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove what is of iterations that are about to run (again)."""
        if trainer.is_global_zero:
            for iteration, paths in recorded_files(self.folder).items():
                for path in paths if iteration >= trainer.current_epoch else ():
                    path.unlink()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the iteration's responses, with their advantages and whether they were kept."""
        module = DSRLModule.of(pl_module)
        experience, config = module.experience, module.config
        assert experience is not None
        collected = experience.batch
        head = RecordHead(
            params=collected.params,
            prompts_per_iteration=config.prompts_per_iteration,
            compute_dtype=config.sampler.compute_dtype,
            weights_version=module.iteration,
            phase=module.phase.number,
            objective=module.phase.name,
        )
        rewards = Rewards(
            values=collected.rewards,
            components=collected.components,
            extracted_answers=collected.extracted_answers,
        )
        columns = {"advantage": experience.choosing_terms[0].advantages.reshape(-1), "kept": experience.kept}
        path = record_path(self.folder, module.iteration, trainer.global_rank)
        write_rollouts(path, head, collected.rollouts, rewards, columns)
        self.ended = module.iteration
