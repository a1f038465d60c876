"""Which row comes when, of one set of rows or of several that are mixed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import overload

import torch

from dsrl.data.source import Row
from dsrl.draws import seed_of
from dsrl.errors import ConfigError


class Mixture(Sequence[Row]):
    """Parts of rows, drawn in turns. A turn has as many places as the parts have rows together.

    Without weights each row has one place in each turn. With weights, positive numbers, the places of a turn are shared
    out in their proportion, to the nearest whole number: a part with too many rows for its places goes on with the
    others in the next turn, one with too few comes round again. As a sequence it holds each row once, part by part.
    """

    def __init__(self, parts: Sequence[Sequence[Row]], weights: Sequence[float] | None = None) -> None:
        self.weights = weights
        sizes = [len(part) for part in parts]
        self.places = sizes if weights is None else apportion(sum(sizes), weights)
        for number, (places, size) in enumerate(zip(self.places, sizes, strict=True)):
            if size and not places:
                raise ConfigError(f"data.train: weight {weights[number]:g} is less than one row in {sum(sizes)}")  # type: ignore[index]
        if weights is not None:  # what shares a turn is then no neighbourhood of the file
            parts = [_shuffled(part, number) for number, part in enumerate(parts)]
        self.parts = list(parts)
        self._rows = [row for part in parts for row in part]
        self._ends, self._starts = list(accumulate(self.places)), [0, *accumulate(sizes)]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Mixture:
        """Rows as a mixture of one part; a mixture as it is."""
        return rows if isinstance(rows, Mixture) else cls([rows])

    def filtered(self, keep: Callable[[Row], bool]) -> Mixture:
        """The mixture, in the same proportions, of the rows that `keep` accepts."""
        return Mixture([[row for row in part if keep(row)] for part in self.parts], self.weights)

    def at(self, place: int, seed: int | None) -> int:
        """The index of the row at a place of the endless sequence of turns, each in a fresh order; `seed` None keeps
        their own.
        """
        turn, within = divmod(place, len(self))
        if seed is not None:
            within = _permutation(len(self), seed_of("order", seed, turn))[within]
        number = next(number for number, end in enumerate(self._ends) if within < end)
        places = self.places[number]
        return self._starts[number] + (turn * places + within - self._ends[number] + places) % len(self.parts[number])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self._rows[index]


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """`total` in the proportion of the weights, rounded by largest remainder."""
    exact = [total * weight / sum(weights) for weight in weights]
    whole = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: (whole[number] - exact[number], number))
    for number in by_remainder[: total - sum(whole)]:
        whole[number] += 1
    return whole


def _shuffled(rows: Sequence[Row], number: int) -> list[Row]:
    return random.Random(seed_of("mixture", number)).sample(list(rows), len(rows))


@lru_cache(maxsize=4)
def _permutation(size: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
    return order
