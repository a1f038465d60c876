"""Which prompts are asked in which iteration, on which rank."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dsrl.config.schema import CurriculumConfig
from dsrl.data.curriculum import Curriculum
from dsrl.data.encoding import PromptEncoder
from dsrl.data.mixture import Mixture
from dsrl.data.source import DataSource, Row
from dsrl.errors import ConfigError
from dsrl.seeding import derive_seed
from dsrl.types import Metrics, Prompt

if TYPE_CHECKING:
    from dsrl.config.run_config import RunConfig

logger = logging.getLogger(__name__)

ATTEMPTS = 1000
"""Questions that a curriculum may pass over for one place in a batch; the last of them is asked then."""

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


class IterationBatches(Dataset[list[Prompt]]):
    """Give the list of this rank's prompts in iteration i as item i, and others in their place.

    It is the `PromptSource` of training.

    Args:
        rows: in a fresh permutation each time all have been used.
        encoder: makes prompts of questions.
        batch: prompts of an iteration over all ranks.
        seed: of the permutations; None keeps the rows' own order and ends at the last, as validation does.
        shard: this rank's number, and the number of ranks.
        shuffle: false keeps the rows' own order.
        curriculum: which questions are passed over; None passes over none.
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
        """Choose the prompt at a position of an iteration, which has been replaced `again` times before.

        In the place of a question that is replaced, or passed over by the curriculum, comes a row drawn at random in
        the proportions of the mixture: a function of seed, iteration, position and the number of the attempt.
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
        """Choose another prompt in the place of one of this iteration, with a position of its own."""
        replaced, position = divmod(prompt.position, self.batch)
        return self.prompt_at(iteration, position, replaced + 1)

    def update(self, prompts: Sequence[Prompt], rewards: Tensor) -> None:
        """Tell the curriculum the rewards [B, G] of this rank's prompts. A collective."""
        self.curriculum.update(prompts, rewards)

    def metrics(self) -> Metrics:
        """Measure what the curriculum did in this iteration; starts over."""
        return self.curriculum.metrics()

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
    """Yield one index: the epoch that Lightning sets, which is the iteration."""

    def __init__(self) -> None:
        self.iteration = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the iteration; Lightning does so at the start of each epoch, after a resume, too."""
        self.iteration = epoch

    def __iter__(self) -> Iterator[int]:
        yield self.iteration

    def __len__(self) -> int:
        return 1
