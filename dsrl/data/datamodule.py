"""Which prompts come when, on which rank."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dsrl.data.encoding import PromptEncoder
from dsrl.data.mixture import Mixture
from dsrl.data.source import DataSource, Row
from dsrl.errors import ConfigError
from dsrl.types import Prompt

logger = logging.getLogger(__name__)

PromptLoader = DataLoader[list[Prompt]]


class PromptData(L.LightningDataModule):
    """Batches of prompts. One Lightning epoch is one iteration, and holds one batch.

    The prompts of an iteration depend on (seed, iteration) alone. Rank r of W takes positions r, r + W, ... of them.
    """

    def __init__(self, source: DataSource, *, prompts_per_iteration: int, seed: int) -> None:
        super().__init__()
        self.source, self.prompts_per_iteration, self.seed = source, prompts_per_iteration, seed
        self.encoder: PromptEncoder | None = None  # set by the module once the tokenizer is there
        self._train: Mixture | None = None
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
        self._val = self._val or dict(self.source.val_sets())

    def train_dataloader(self) -> PromptLoader:
        """One batch of this rank's prompts each time it is iterated, that of the epoch set on its sampler."""
        assert self._train is not None, "setup comes first"
        if self.source.overlong == "drop":
            self._train = self._fitting(self._train)
        rows = IterationBatches(
            self._train,
            self._encoder(),
            batch=self.prompts_per_iteration,
            seed=self.seed,
            shard=self._shard(),
            shuffle=self.source.shuffle,
        )
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
    ) -> None:
        self.rows, self.encoder, self.batch, self.seed = Mixture.of(rows), encoder, batch, seed
        self.rank, self.world_size = shard
        self.order = seed if shuffle else None

    def __getitem__(self, iteration: int) -> list[Prompt]:
        first = iteration * self.batch
        last = first + self.batch if self.seed is not None else min(first + self.batch, len(self.rows))
        places = range(first, last)
        # In training a position is a place in the batch; in validation, one in the set, so that batches draw apart.
        offset = first if self.seed is not None else 0
        return [self._prompt(place, place - offset) for place in places[self.rank :: self.world_size]]

    def _prompt(self, place: int, position: int) -> Prompt:
        row = self.rows.at(place, self.order)
        text, token_ids, cut = self.encoder.read(row.question)
        return Prompt(
            position=position,
            text=text,
            token_ids=token_ids,
            truncated=cut,
            messages=None if isinstance(row.question, str) else tuple(row.question),
            answer=row.answer,
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
