"""Additions for the embedded model, without a file: `data=arithmetic`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsrl.data.arithmetic_world import DIGITS, sample_problem
from dsrl.data.source import DataSource, Row
from dsrl.registry import register
from dsrl.seeding import derive_seed


@register("data", "arithmetic")
@dataclass(kw_only=True)
class ArithmeticSource(DataSource):
    """Sums of two numbers. The questions of training and validation never meet (`is_held_out`).

    digits: of both numbers; the embedded model knows 4. train_size, val_size: questions. problem_seed: which ones.
    """

    digits: int = DIGITS
    train_size: int = 20_000
    val_size: int = 128
    problem_seed: int = 0

    def train_rows(self) -> Sequence[Row]:
        """`train_size` questions."""
        return self._rows("train", self.train_size)

    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """One set, `arithmetic`, of held-out questions."""
        return {"arithmetic": self._rows("val", self.val_size)} if self.val_size else {}

    def check(self) -> list[str]:
        """Sizes that make no sense."""
        smallest = {"digits": (self.digits, 2), "train_size": (self.train_size, 1), "val_size": (self.val_size, 0)}
        return DataSource.check(self) + [
            f"data.{key}={value}: must be at least {least}" for key, (value, least) in smallest.items() if value < least
        ]

    def _rows(self, split: str, size: int) -> list[Row]:
        rng = random.Random(derive_seed("arithmetic", split, self.problem_seed))
        problems = [sample_problem(rng, self.digits, held_out=split == "val") for _ in range(size)]
        return [Row(question=question, ground_truth=answer, data_source="arithmetic") for question, answer in problems]
