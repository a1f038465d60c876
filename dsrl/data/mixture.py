"""Say which row comes when, from one list of rows or from several that are mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import overload

import torch

from dsrl.data.source import Row
from dsrl.errors import ConfigError
from dsrl.seeding import derive_seed


class Mixture(Sequence[Row]):
    """Draw rows from several parts, turn after turn. A turn has as many places as the parts have rows together.

    Without weights each row has one place in each turn. With weights, the places of a turn are shared out between the
    parts in their proportion, rounded to whole numbers. A part that has more rows than places goes on with its other
    rows in the next turn; one that has fewer repeats its rows. As a sequence a mixture holds each row once, part by
    part.
    """

    def __init__(self, parts: Sequence[Sequence[Row]], weights: Sequence[float] | None = None) -> None:
        """Mix the parts. `weights` are positive numbers, one a part. Raises ConfigError for a part without a place."""
        self.parts, self.weights = list(parts), weights
        self._sizes = tuple(map(len, parts))
        self.places = list(self._sizes) if weights is None else apportion(sum(self._sizes), weights)
        for number, (places, size) in enumerate(zip(self.places, self._sizes, strict=True)):
            if size and not places:
                raise ConfigError(f"data.train: weight {weights[number]:g} is less than one row in {len(self)}")  # type: ignore[index]
            if places and not size:
                raise ConfigError(f"data.train: its entry {number + 1} has a weight, but no rows that can be used")
        self._rows = [row for part in parts for row in part]
        self._starts = list(accumulate(self._sizes, initial=0))
        self._turn = [(number, nth) for number, places in enumerate(self.places) for nth in range(places)]
        if weights is not None:  # spread each part's places evenly, so that any stretch has about the proportion
            self._turn.sort(key=lambda place: ((place[1] + 0.5) / self.places[place[0]], place[0]))

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Mixture:
        """Make a mixture of one part from rows; a mixture is returned as it is."""
        return rows if isinstance(rows, Mixture) else cls([rows])

    def filtered(self, keep: Callable[[Row], bool]) -> Mixture:
        """Mix the rows that `keep` accepts, in the same proportions."""
        return Mixture([[row for row in part if keep(row)] for part in self.parts], self.weights)

    def at(self, place: int, seed: int | None) -> int:
        """Give the index of the row at a place, counted from 0, of the endless sequence of turns.

        With a seed each turn has an order of its own. Without one the rows of each part keep their order, and the
        parts alternate in their proportion.
        """
        turn, within = divmod(place, len(self))
        if seed is not None:
            within = _permutation(len(self), derive_seed("order", seed, turn))[within]
        number, nth = self._turn[within]
        row = (turn * self.places[number] + nth) % self._sizes[number]
        if seed is not None and self.weights is not None:  # what shares a turn is then no neighbourhood of the file
            row = _permutations(self._sizes, seed)[number][row]
        return self._starts[number] + row

    def __len__(self) -> int:
        return sum(self._sizes)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self._rows[index]


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Share `total` out in the proportion of the weights, in whole numbers, by largest remainder."""
    exact = [total * (weight / sum(weights)) for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: (shares[number] - exact[number], number))
    for number in by_remainder[: total - sum(shares)]:
        shares[number] += 1
    return shares


@lru_cache(maxsize=2)
def _permutations(sizes: tuple[int, ...], seed: int) -> list[list[int]]:
    return [_permutation(size, derive_seed("mixture", seed, number)) for number, size in enumerate(sizes)]


@lru_cache(maxsize=4)
def _permutation(size: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
    return order
