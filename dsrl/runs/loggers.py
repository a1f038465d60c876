"""Give Lightning's loggers what `self.log` does not reach them with: the configuration, the validation before any
update, samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from dsrl.loop.module import DSRLModule
from dsrl.runs.logger_ids import keep_ids

COLUMNS = (
    "iteration",
    "question",
    "response_number",
    "prompt",
    "response",
    "extracted_answer",
    "ground_truth",
    "reward",
    "advantage",
    "kept",
)
"""What a table of samples shows, where it is known."""


class ToLoggers(L.Callback):
    """Log the configuration as hyperparameters, and the validation before any update at step 0."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the configuration, and keep the ids of runs that services have begun for it."""
        config = DSRLModule.of(pl_module).config
        for logger in trainer.loggers:
            logger.log_hyperparams(config.resolved)
        if trainer.is_global_zero:
            keep_ids(config.run_dir, dict(zip(config.logger, trainer.loggers, strict=False)))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the validation before any update, which Lightning takes for a check of the code alone."""
        validated = DSRLModule.of(pl_module).validated
        if trainer.sanity_checking and validated:
            for logger in trainer.loggers:
                logger.log_metrics(validated, step=0)
                logger.save()


def log_samples(trainer: L.Trainer, name: str, samples: Sequence[Mapping[str, Any]], step: int) -> None:
    """Show samples, lines of samples.jsonl, in loggers that can: as text in TensorBoard, as a table in those that have
    `log_table`, as wandb's does.
    """
    for logger in trainer.loggers if samples else ():
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(name, "\n\n".join(map(_as_text, samples)), step)
        elif hasattr(logger, "log_table"):
            columns = [column for column in COLUMNS if column in samples[0]]
            rows = [[sample[column] for column in columns] for sample in samples]
            logger.log_table(key=name, columns=columns, data=rows, step=step)


def _as_text(sample: Mapping[str, Any]) -> str:
    """Write a sample as Markdown. Texts of the model are indented, so that nothing in them is markup."""
    kept = "kept" if sample.get("kept") else "not kept"
    used = f", advantage {sample['advantage']:+.3f}, {kept}" if "advantage" in sample else ""
    reward = "none" if sample["reward"] is None else f"{sample['reward']:g}"
    head = f"**question {sample['question']}, response {sample['response_number']}: reward {reward}**{used}"
    texts = (f"    {key}: {sample[key]}".replace("\n", "\n    ") for key in ("prompt", "response", "ground_truth"))
    return "\n\n".join([head, *texts])
