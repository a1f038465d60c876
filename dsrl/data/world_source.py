"""The base class of the data sources whose questions come from a world."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dsrl.data.source import DataSource, Row
from dsrl.errors import ConfigError
from dsrl.seeding import derive_seed
from dsrl.worlds import World


@dataclass(kw_only=True)
class WorldSource(DataSource):
    """Draw the questions of a world. No question is both trained on and validated on (see `is_held_out`)."""

    train_size: int = 20_000
    """Questions to train on."""
    val_size: int = 128
    """Questions of validation; 0: none."""
    problem_seed: int = 0
    """Which questions are drawn."""

    name: ClassVar[str]
    """Of the validation set, and of the rows' data source."""

    @abstractmethod
    def world(self) -> World:
        """Make the world that the questions are of. Raises ConfigError for values that make no sense."""

    def train_rows(self) -> Sequence[Row]:
        """Draw `train_size` questions."""
        return self._rows("train", self.train_size)

    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """Draw one set of `val_size` held-out questions, called as the source is."""
        return {self.name: self._rows("val", self.val_size)} if self.val_size else {}

    def val_names(self) -> list[str]:
        """Name that set."""
        return [self.name] if self.val_size else []

    def check(self) -> list[str]:
        """List values that make no sense, and the problems of every data source."""
        problems = DataSource.check(self)
        try:
            self.world()
        except ConfigError as error:
            problems += [f"data.{line}" for line in str(error).splitlines()]
        smallest = {"train_size": (self.train_size, 1), "val_size": (self.val_size, 0)}
        return problems + [
            f"data.{key}={value}: must be at least {least}" for key, (value, least) in smallest.items() if value < least
        ]

    def _rows(self, split: str, size: int) -> list[Row]:
        world, rng = self.world(), random.Random(derive_seed(self.name, split, self.problem_seed))
        problems = [world.sample_problem(rng, held_out=split == "val") for _ in range(size)]
        return [Row(question=question, ground_truth=answer, data_source=self.name) for question, answer in problems]
