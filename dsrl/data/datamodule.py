"""Which prompts are asked in which iteration, on which rank."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from dsrl.config.schema import CurriculumConfig
from dsrl.data.curriculum import Curriculum
from dsrl.data.encoding import PromptEncoder
from dsrl.data.iteration_batches import IterationBatches, OneIteration
from dsrl.data.mixture import Mixture
from dsrl.data.source import DataSource, Row
from dsrl.errors import ConfigError
from dsrl.types import Prompt

if TYPE_CHECKING:
    from dsrl.config.run_config import RunConfig

logger = logging.getLogger(__name__)

PromptLoader = DataLoader[list[Prompt]]


class PromptData(L.LightningDataModule):
    """Load batches of prompts. One Lightning epoch is one iteration, and holds one batch.

    The prompts of an iteration depend on (seed, iteration) alone, and on what the curriculum, where it is used, has
    seen before, which is in every checkpoint. Rank r of W takes positions r, r + W, ... of them.

    Args:
        source: gives the rows to train on, and the validation sets.
        prompts_per_iteration: B over all ranks.
        seed: of the order of the rows.
        curriculum: which questions are asked less often; None asks all alike.
        encoder: makes prompts of questions; None takes that of the module which the trainer runs.
    """

    def __init__(
        self,
        source: DataSource,
        *,
        prompts_per_iteration: int,
        seed: int,
        curriculum: CurriculumConfig | None = None,
        encoder: PromptEncoder | None = None,
    ) -> None:
        super().__init__()
        self.curriculum = Curriculum(curriculum or CurriculumConfig())
        self.source, self.prompts_per_iteration, self.seed = source, prompts_per_iteration, seed
        self._encoder = encoder
        self._train: Mixture | None = None
        self._fingerprint = ""  # of all rows that were read to train on
        self._val: dict[str, Sequence[Row]] = {}

    @classmethod
    def of(cls, config: RunConfig) -> PromptData:
        """Make the data module of a configuration."""
        return cls(
            config.data,
            prompts_per_iteration=config.prompts_per_iteration,
            seed=config.seed,
            curriculum=config.curriculum,
        )

    @property
    def encoder(self) -> PromptEncoder:
        """Makes prompts of questions: the module's, which knows the model, unless one was given."""
        if self._encoder is None:
            assert self.trainer is not None, "without an encoder of its own, a trainer must run this data module"
            module: Any = self.trainer.lightning_module
            self._encoder = module.encoder
        assert isinstance(self._encoder, PromptEncoder)
        return self._encoder

    @cached_property
    def batches(self) -> IterationBatches:
        """The prompts of every iteration of training, this rank's share."""
        assert self._train is not None, "setup comes first"
        self._warn_of_common(self._train)
        return IterationBatches(
            self._fitting(self._train) if self.source.overlong == "drop" else self._train,
            self.encoder,
            batch=self.prompts_per_iteration,
            seed=self.seed,
            shard=self._shard(),
            shuffle=self.source.shuffle,
            curriculum=self.curriculum,
        )

    @property
    def val_names(self) -> list[str]:
        """Names of the validation sets, in the order of their dataloaders."""
        return list(self._val)

    def setup(self, stage: str) -> None:
        """Read the rows, once. Raises ConfigError for files that cannot be used."""
        if stage == "fit" and self._train is None:
            self._train = Mixture.of(self.source.train_rows())
            if not self._train:
                raise ConfigError("data.train holds no rows")
            self._fingerprint = fingerprint(self._train)
        self._val = self._val or dict(self.source.val_sets())

    def train_dataloader(self) -> PromptLoader:
        """Load one batch each time it is iterated: this rank's prompts of the epoch that is set on its sampler."""
        return DataLoader(self.batches, batch_size=None, sampler=OneIteration())

    def val_dataloader(self) -> list[PromptLoader]:
        """Make a loader for each validation set: all of its questions in order, this rank's share."""
        loaders = []
        for rows in self._val.values():
            batch = min(self.prompts_per_iteration, len(rows))
            data = IterationBatches(rows, self.encoder, batch=batch, seed=None, shard=self._shard())
            loaders.append(DataLoader(data, batch_size=None, sampler=range(-(-len(rows) // batch))))
        return loaders

    def check_prompts(self) -> None:
        """Read every row, where the tokenizer holds tokens that the model has no embedding for. Raises ConfigError for
        one that holds such a token.
        """
        if self.encoder.tokens_without_embeddings:
            for row in chain(self._train or (), *self._val.values()):
                self.encoder.read(row.question)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave the prompts as they are: text and numbers."""
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Save which rows are trained on, and what the curriculum has seen of them."""
        return {"rows": self._fingerprint, **(self.curriculum.state_dict() if self.curriculum.active else {})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it. Raises ConfigError where the rows are others."""
        if state_dict["rows"] != self._fingerprint:
            raise ConfigError(
                f"resume: data.train holds other rows than the run was made with: {self._fingerprint} now, "
                f"{state_dict['rows']} then; put them back as they were, in their order, or start another run"
            )
        if self.curriculum.active:
            self.curriculum.load_state_dict(state_dict)

    def _warn_of_common(self, rows: Mixture) -> None:
        """Warn of rows that ask what validation asks, too: it may be meant, but then the accuracy is not held out."""
        for name, val in self._val.items():
            validated = {row.question_text for row in val}
            common = sum(row.question_text in validated for row in rows)
            if common and self._shard()[0] == 0:
                logger.warning(
                    "data.train: %d of %d rows ask a question of the validation set %s", common, len(rows), name
                )

    def _fitting(self, rows: Mixture) -> Mixture:
        """Leave out the rows whose prompts are too long; rank 0 reports how many."""
        encoder = self.encoder
        fitting = rows.filtered(lambda row: not encoder.read(row.question)[2])
        before, after = (sum(map(len, mixture.parts)) for mixture in (rows, fitting))
        told = f"{before - after} of {before} prompts are longer than {encoder.max_tokens} tokens"
        if not fitting:
            raise ConfigError(f"data.overlong=drop leaves nothing: {told}; raise data.max_prompt_tokens")
        if after < before and self._shard()[0] == 0:
            logger.warning("data.train: %s and are left out (data.overlong=drop)", told)
        return fitting

    def _shard(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def fingerprint(rows: Sequence[Row]) -> str:
    """Summarise rows: equal for two lists only where they hold the same questions and ground truths in one order."""
    digest = hashlib.blake2b(digest_size=8)
    for row in rows:
        question = row.question if isinstance(row.question, str) else [dict(message) for message in row.question]
        digest.update(repr((question, row.ground_truth)).encode())
    return f"{len(rows)} rows (hash {digest.hexdigest()})"
