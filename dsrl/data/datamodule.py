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
from dsrl.data.askable import askable
from dsrl.data.curriculum import Curriculum
from dsrl.data.encoding import PromptEncoder
from dsrl.data.ground_truth_check import check_ground_truths
from dsrl.data.iteration_batches import IterationBatches, OneIteration
from dsrl.data.mixture import Mixture
from dsrl.data.source import DataSource, Row
from dsrl.errors import ConfigError
from dsrl.types import Prompt

if TYPE_CHECKING:
    from dsrl.config.run_config import RunConfig
    from dsrl.verifiers.verifier import SupportsScore

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
        verifier: what scores the answers; rows whose ground truth it cannot compare are refused when they are read.
    """

    def __init__(
        self,
        source: DataSource,
        *,
        prompts_per_iteration: int,
        seed: int,
        curriculum: CurriculumConfig | None = None,
        encoder: PromptEncoder | None = None,
        verifier: SupportsScore | None = None,
    ) -> None:
        super().__init__()
        self.curriculum = Curriculum(curriculum or CurriculumConfig())
        self.source, self.prompts_per_iteration, self.seed = source, prompts_per_iteration, seed
        self._encoder, self._verifier = encoder, verifier
        self._train: Mixture | None = None
        self._fingerprint = ""  # of all rows that were read to train on
        self._val: dict[str, Sequence[Row]] = {}
        self._looked_at = False

    @classmethod
    def of(cls, config: RunConfig, encoder: PromptEncoder | None = None) -> PromptData:
        """Make the data module of a configuration."""
        return cls(
            config.data,
            prompts_per_iteration=config.prompts_per_iteration,
            seed=config.seed,
            curriculum=config.curriculum,
            encoder=encoder,
            verifier=config.verifier,
        )

    @property
    def encoder(self) -> PromptEncoder:
        """Makes prompts of questions: the module's, which knows the model, unless one was given."""
        if self._encoder is not None:
            return self._encoder
        assert self.trainer is not None, "without an encoder of its own, a trainer must run this data module"
        module: Any = self.trainer.lightning_module
        found = module.encoder  # another one once the model is loaded
        assert isinstance(found, PromptEncoder)
        return found

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
        """Read the rows, once, and look at their prompts as soon as the encoder is known.

        Raises ConfigError for files that cannot be used, for rows that the verifier cannot score, and for prompts that
        the chat template refuses.
        """
        if stage == "fit" and self._train is None:
            self._train = Mixture.of(self.source.train_rows())
            if not self._train:
                raise ConfigError("data.train holds no rows")
            self._check(self._train, "data.train")
            self._fingerprint = fingerprint(self._train)
        if not self._val:
            self._val = dict(self.source.val_sets())
            for name, rows in self._val.items():
                self._check(rows, f"data.val, {name}")
        if not self._looked_at and (self._encoder is not None or self.trainer is not None):
            self._look_at_prompts()

    def first_rows(self) -> dict[str, Row]:
        """Find the row that training asks first, and the first of each validation set, by the keys they come from."""
        firsts = {f"data.val {name}": rows[0] for name, rows in self._val.items() if rows}
        if self._train is None:
            return firsts
        first = self._train.at(0, self.seed if self.source.shuffle else None)
        return {"data.train": self._train[first], **firsts}

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

    def _look_at_prompts(self) -> None:
        """Leave out what cannot be asked, before anything is sampled."""
        broken = getattr(self.source, "broken_rows", "refuse")
        says, encoder = self._shard()[0] == 0, self.encoder
        if self._train is not None:
            self._train = askable(self._train, encoder, label="data.train", broken=broken, says=says)
        for name, rows in self._val.items():
            if rows:
                self._val[name] = askable(Mixture.of(rows), encoder, label=f"data.val {name}", broken=broken, says=says)
        self._looked_at = True

    def _check(self, rows: Sequence[Row], label: str) -> None:
        if self._verifier is not None:
            check_ground_truths(self._verifier, rows, label, log=self._shard()[0] == 0)

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
