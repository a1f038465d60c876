"""Deal the rows of a pass out to ranks and micro-batches, so that no rank waits long for another.

Ranks go through a pass together: under FSDP each micro-batch is a collective, and every optimizer step is one. So a
pass takes as long as the slowest micro-batch of each round.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple


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
    """Deal rows out to micro-batches, as many on each rank, and as few as the budget allows.

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
    """Cut rows, longest first, into rectangles, such that the heaviest is as light as their number allows."""

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

    batches = cut(math.inf)
    count = math.ceil(len(batches) / ranks) * ranks
    low, high = 0.0, max(map(weigh, batches), default=0.0)
    for _ in range(40):
        middle = (low + high) / 2
        found = cut(middle)
        if len(found) <= count:
            batches, high = found, middle
        else:
            low = middle
    batches = batches + [[]] * (count - len(batches))
    return batches, [weigh(batch) for batch in batches]


def _pack(rows: Sequence[Row], order: list[int], ranks: int, tokens: int) -> tuple[list[list[int]], list[float]]:
    """Pack each row, longest first, into the lightest micro-batch that has room for it."""
    count = math.ceil(sum(row.tokens for row in rows) / tokens / ranks) * ranks
    while True:
        batches: list[list[int]] = [[] for _ in range(count)]
        held, lightest = [0] * count, [(0.0, number) for number in range(count)]
        if all(_put(rows[number], number, batches, held, lightest, tokens) for number in order):
            weight = [0.0] * count
            for cost, number in lightest:
                weight[number] = cost
            return batches, weight
        count += ranks


def _put(
    row: Row, number: int, batches: list[list[int]], held: list[int], lightest: list[tuple[float, int]], tokens: int
) -> bool:
    full = []
    while lightest:
        cost, batch = heapq.heappop(lightest)
        if not batches[batch] or held[batch] + row.tokens <= tokens:
            break
        full.append((cost, batch))
    else:
        return False
    batches[batch].append(number)
    held[batch] += row.tokens
    for entry in (*full, (cost + row.cost, batch)):
        heapq.heappush(lightest, entry)
    return True
