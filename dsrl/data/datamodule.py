"""Which prompts come when, on which rank."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dsrl.config.schema import CurriculumConfig
from dsrl.data.curriculum import Curriculum
from dsrl.data.encoding import PromptEncoder
from dsrl.data.mixture import Mixture
from dsrl.data.source import DataSource, Row
from dsrl.errors import ConfigError
from dsrl.seeding import derive_seed
from dsrl.types import Prompt

logger = logging.getLogger(__name__)

ATTEMPTS = 1000
"""Questions that a curriculum may pass over for one place; then the last of them is asked."""

PromptLoader = DataLoader[list[Prompt]]


class PromptData(L.LightningDataModule):
    """Batches of prompts. One Lightning epoch is one iteration, and holds one batch.

    The prompts of an iteration depend on (seed, iteration) alone, and on what the curriculum, where it is used, has
    seen before, which is in every checkpoint. Rank r of W takes positions r, r + W, ... of them.
    """

    batches: IterationBatches  # of training

    def __init__(
        self, source: DataSource, *, prompts_per_iteration: int, seed: int, curriculum: CurriculumConfig | None = None
    ) -> None:
        super().__init__()
        self.curriculum = Curriculum(curriculum or CurriculumConfig())
        self.source, self.prompts_per_iteration, self.seed = source, prompts_per_iteration, seed
        self.encoder: PromptEncoder | None = None  # set by the module once the tokenizer is there
        self._train: Mixture | None = None
        self._fingerprint = ""  # of all rows that were read to train on
        self._val: dict[str, Sequence[Row]] = {}

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
        """One batch of this rank's prompts each time it is iterated, that of the epoch set on its sampler."""
        assert self._train is not None, "setup comes first"
        self._warn_of_common(self._train)
        if self.source.overlong == "drop":
            self._train = self._fitting(self._train)
        rows = IterationBatches(
            self._train,
            self._encoder(),
            batch=self.prompts_per_iteration,
            seed=self.seed,
            shard=self._shard(),
            shuffle=self.source.shuffle,
            curriculum=self.curriculum,
        )
        self.batches = rows
        return DataLoader(rows, batch_size=None, sampler=OneIteration())

    def val_dataloader(self) -> list[PromptLoader]:
        """One loader a set: all of its questions in order, this rank's share."""
        loaders = []
        for rows in self._val.values():
            batch = min(self.prompts_per_iteration, len(rows))
            data = IterationBatches(rows, self._encoder(), batch=batch, seed=None, shard=self._shard())
            loaders.append(DataLoader(data, batch_size=None, sampler=range(-(-len(rows) // batch))))
        return loaders

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Prompts are text and numbers: nothing to move."""
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Which rows are trained on, and what the curriculum has seen of them."""
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
        """Say how many rows ask what validation asks, too: it may be meant, and is no held-out number then."""
        for name, val in self._val.items():
            validated = {row.question_text for row in val}
            common = sum(row.question_text in validated for row in rows)
            if common and self._shard()[0] == 0:
                logger.warning(
                    "data.train: %d of %d rows ask a question of the validation set %s", common, len(rows), name
                )

    def _fitting(self, rows: Mixture) -> Mixture:
        """The rows whose prompts are read whole; how many are not is reported by rank 0."""
        encoder = self._encoder()
        fitting = rows.filtered(lambda row: not encoder.read(row.question)[2])
        before, after = (sum(map(len, mixture.parts)) for mixture in (rows, fitting))
        told = f"{before - after} of {before} prompts are longer than {encoder.max_tokens} tokens"
        if not fitting:
            raise ConfigError(f"data.overlong=drop leaves nothing: {told}; raise data.max_prompt_tokens")
        if after < before and self._shard()[0] == 0:
            logger.warning("data.train: %s and are left out (data.overlong=drop)", told)
        return fitting

    def _encoder(self) -> PromptEncoder:
        assert self.encoder is not None, "the module sets the encoder in configure_model"
        return self.encoder

    def _shard(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def fingerprint(rows: Sequence[Row]) -> str:
    """What two lists of rows share alone where they hold the same questions and answers in the same order."""
    digest = hashlib.blake2b(digest_size=8)
    for row in rows:
        question = row.question if isinstance(row.question, str) else [dict(message) for message in row.question]
        digest.update(repr((question, row.ground_truth)).encode())
    return f"{len(rows)} rows (hash {digest.hexdigest()})"


class IterationBatches(Dataset[list[Prompt]]):
    """Item i is the list of this rank's prompts in iteration i.

    Rows come in a fresh permutation each time all have been used, with `shuffle` false in their own order; `seed` None
    keeps it, too, and ends at the last.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        encoder: PromptEncoder,
        *,
        batch: int,
        seed: int | None,
        shard: tuple[int, int] = (0, 1),
        shuffle: bool = True,
        curriculum: Curriculum | None = None,
    ) -> None:
        self.rows, self.encoder, self.batch, self.seed = Mixture.of(rows), encoder, batch, seed
        self.rank, self.world_size = shard
        self.order = seed if shuffle else None
        self.curriculum = curriculum or Curriculum(CurriculumConfig())

    def __getitem__(self, iteration: int) -> list[Prompt]:
        first = iteration * self.batch
        last = first + self.batch if self.seed is not None else min(first + self.batch, len(self.rows))
        places = range(first, last)[self.rank :: self.world_size]
        if self.seed is None:  # a position is then a place in the set, so that batches draw apart
            return [self._prompt(place, place) for place in places]
        return [self.prompt_at(iteration, place - first) for place in places]

    def prompt_at(self, iteration: int, position: int, again: int = 0) -> Prompt:
        """The question at a position of an iteration; `again`: how often it has been replaced by another.

        What is replaced, or passed over by the curriculum, makes room for a row drawn at random in the proportions of
        the mixture: a function of seed, iteration, position and the number of the attempt.
        """
        assert self.seed is not None
        row = 0
        for attempt in range(ATTEMPTS):
            rng = random.Random(derive_seed("instead", self.seed, iteration, position, again, attempt))
            if again == attempt == 0:
                row = self.rows.at(iteration * self.batch + position, self.order)
            else:
                row = self.rows.at(rng.randrange(ATTEMPTS * len(self.rows)), None)
            if not self.curriculum.passes_over(row, rng.random()):
                break
        return self._prompt(row, position + again * self.batch)

    def replacement_for(self, prompt: Prompt, iteration: int) -> Prompt:
        """Another question in the place of one that this iteration asked, with a position of its own."""
        replaced, position = divmod(prompt.position, self.batch)
        return self.prompt_at(iteration, position, replaced + 1)

    def _prompt(self, index: int, position: int) -> Prompt:
        row = self.rows[index]
        text, token_ids, cut = self.encoder.read(row.question)
        return Prompt(
            position=position,
            row=index,
            text=text,
            token_ids=token_ids,
            truncated=cut,
            messages=None if isinstance(row.question, str) else tuple(row.question),
            ground_truth=row.ground_truth,
            structured_ground_truth=row.structured_ground_truth,
            data_source=row.data_source,
            extra=row.extra,
        )


class OneIteration(Sampler[int]):
    """Yields one index: the epoch that Lightning sets, which is the iteration."""

    def __init__(self) -> None:
        self.iteration = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch, after a resume, too."""
        self.iteration = epoch

    def __iter__(self) -> Iterator[int]:
        yield self.iteration

    def __len__(self) -> int:
        return 1
