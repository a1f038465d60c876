"""Deal the rows of a pass out to ranks and micro-batches, so that no rank waits long for another.

Ranks go through a pass together: under FSDP each micro-batch is a collective, and every optimizer step is one. So a
pass takes as long as the slowest micro-batch of each round.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

ROUND = 0.02
"""What a further round costs by itself, as a part of a full micro-batch; the padding that it saves must be more."""


class Row(NamedTuple):
    """A row of a pass: its tokens, and its cost in any unit that all rows share (floating point operations)."""

    tokens: int
    cost: float


class Work(NamedTuple):
    """Tokens of a pass, over all ranks.

    Args:
        real: those of its rows.
        computed: with padding.
        slowest: what the ranks take the time of, where each round waits for its slowest.
    """

    real: int
    computed: int
    slowest: int


def work_of(rows: Sequence[Row], dealt: Sequence[Sequence[Sequence[int]]], *, padded: bool) -> Work:
    """Count the tokens of rows that `deal` has dealt out."""

    def computed(batch: Sequence[int]) -> int:
        sizes = [rows[number].tokens for number in batch]
        return len(sizes) * max(sizes, default=0) if padded else sum(sizes)

    rounds = [[computed(batch) for batch in batches] for batches in zip(*dealt, strict=True)]
    return Work(
        real=sum(row.tokens for row in rows),
        computed=sum(map(sum, rounds)),
        slowest=len(dealt) * sum(map(max, rounds)),
    )


def deal(rows: Sequence[Row], *, ranks: int, tokens: int, padded: bool) -> list[list[list[int]]]:
    """Deal rows out to micro-batches, as many on each rank.

    Args:
        rows: of all ranks.
        ranks: how many there are.
        tokens: in a micro-batch at most, padding included, unless one row has more.
        padded: whether the rows of a micro-batch are padded to its longest; else they are packed without padding.

    Returns:
        Of each rank, in the order of the rounds, the micro-batches as lists of numbers of rows; some may be empty.
    """
    order = sorted(range(len(rows)), key=lambda number: (-rows[number].tokens, -rows[number].cost, number))
    batches, weight = (_cut if padded else _pack)(rows, order, ranks, tokens)
    heaviest_first = sorted(range(len(batches)), key=lambda number: (-weight[number], number))
    dealt: list[list[list[int]]] = [[] for _ in range(ranks)]
    total = [0.0] * ranks
    for first in range(0, len(batches), ranks):
        # A round has micro-batches of like weight; its heaviest goes to the rank that has had least.
        lightest_first = sorted(range(ranks), key=lambda rank: (total[rank], rank))
        for rank, number in zip(lightest_first, heaviest_first[first : first + ranks], strict=True):
            dealt[rank].append(batches[number])
            total[rank] += weight[number]
    return dealt


def _cut(rows: Sequence[Row], order: list[int], ranks: int, tokens: int) -> tuple[list[list[int]], list[float]]:
    """Cut rows, longest first, into rectangles: more than the budget asks for, where that saves more padding."""

    def cut(limit: float) -> list[list[int]]:
        batches: list[list[int]] = []
        longest, heaviest = 0, 0.0
        for number in order:
            row = rows[number]
            count = len(batches[-1]) + 1 if batches else 0
            if count and count * longest <= tokens and count * max(heaviest, row.cost) <= limit:
                batches[-1].append(number)
                heaviest = max(heaviest, row.cost)
            else:
                batches.append([number])
                longest, heaviest = row.tokens, row.cost
        return batches

    def weigh(batch: list[int]) -> float:
        return len(batch) * max((rows[number].cost for number in batch), default=0.0)

    def evenly(count: int) -> list[list[int]]:
        """Cut into at most so many rectangles, the heaviest as light as can be."""
        low, high = 0.0, max(weigh(batch) for batch in fewest)
        found = fewest
        while high - low > 1e-3 * high:
            middle = (low + high) / 2
            tried = cut(middle)
            if len(tried) <= count:
                found, high = tried, middle
            else:
                low = middle
        return found + [[]] * (-len(found) % ranks)

    fewest = cut(math.inf)
    if not fewest:
        return [], []
    rounds = math.ceil(len(fewest) / ranks)
    full = tokens * max(row.cost / row.tokens for row in rows)

    def seconds(batches: list[list[int]]) -> float:
        """What the rounds take, in the unit of cost."""
        weights = sorted(map(weigh, batches), reverse=True)
        return sum(weights[::ranks]) + len(batches) / ranks * ROUND * full

    tried = [evenly(ranks * math.ceil(rounds * times)) for times in (1, 1.5, 2, 3, 4)]
    batches = min(tried, key=seconds)
    return batches, [weigh(batch) for batch in batches]


def _pack(rows: Sequence[Row], order: list[int], ranks: int, tokens: int) -> tuple[list[list[int]], list[float]]:
    """Pack each row, longest first, into the lightest micro-batch that has room for it."""
    alone = sum(row.tokens > tokens / 2 for row in rows)  # no two of these fit into one
    rounds = math.ceil(max(sum(row.tokens for row in rows) / tokens, alone) / ranks)
    while (packed := _packed(rows, order, rounds * ranks, tokens)) is None:
        rounds += max(1, rounds // 20)
    return packed, [sum(rows[number].cost for number in batch) for batch in packed]


def _packed(rows: Sequence[Row], order: list[int], count: int, tokens: int) -> list[list[int]] | None:
    """Pack rows into so many micro-batches; None where they do not fit."""
    batches: list[list[int]] = [[] for _ in range(count)]
    held, lightest = [0] * count, [(0.0, number) for number in range(count)]
    shortest = rows[order[-1]].tokens if order else 0
    for number in order:
        row, full = rows[number], []
        while lightest:
            cost, batch = heapq.heappop(lightest)
            if not batches[batch] or held[batch] + row.tokens <= tokens:
                break
            full.append((cost, batch))
        else:
            return None
        batches[batch].append(number)
        held[batch] += row.tokens
        for entry in (*full, (cost + row.cost, batch)):
            if held[entry[1]] + shortest <= tokens:
                heapq.heappush(lightest, entry)
    return batches
