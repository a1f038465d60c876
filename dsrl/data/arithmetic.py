"""Data source `arithmetic`: additions for the embedded model, without a file."""

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
    """Ask for sums of two numbers. No question is both trained on and validated on (see `is_held_out`)."""

    digits: int = DIGITS
    """Digits of both numbers; the embedded model knows 4."""
    train_size: int = 20_000
    """Questions to train on."""
    val_size: int = 128
    """Questions of validation; 0: none."""
    problem_seed: int = 0
    """Which questions are drawn."""

    def train_rows(self) -> Sequence[Row]:
        """Draw `train_size` questions."""
        return self._rows("train", self.train_size)

    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """Draw one set of `val_size` held-out questions, called `arithmetic`."""
        return {"arithmetic": self._rows("val", self.val_size)} if self.val_size else {}

    def check(self) -> list[str]:
        """List sizes that make no sense, and the problems of every data source."""
        smallest = {"digits": (self.digits, 2), "train_size": (self.train_size, 1), "val_size": (self.val_size, 0)}
        return DataSource.check(self) + [
            f"data.{key}={value}: must be at least {least}" for key, (value, least) in smallest.items() if value < least
        ]

    def _rows(self, split: str, size: int) -> list[Row]:
        rng = random.Random(derive_seed("arithmetic", split, self.problem_seed))
        problems = [sample_problem(rng, self.digits, held_out=split == "val") for _ in range(size)]
        return [Row(question=question, ground_truth=answer, data_source="arithmetic") for question, answer in problems]
