"""Which prompts are asked in which iteration, and which in the place of others."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.utils.data import Dataset, Sampler

from dsrl.config.schema import CurriculumConfig
from dsrl.data.curriculum import Curriculum
from dsrl.data.encoding import PromptEncoder
from dsrl.data.mixture import Mixture
from dsrl.data.prompts import prompt_of
from dsrl.data.source import Row
from dsrl.seeding import derive_seed
from dsrl.types import Metrics, Prompt

ATTEMPTS = 1000
"""Questions that a curriculum may pass over for one place in a batch; the last of them is asked then."""


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
        return prompt_of(self.rows[index], self.encoder, index=index, position=position)


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
