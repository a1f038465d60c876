"""Rows are dealt out to ranks and micro-batches: every row once, within the budget, and no rank waits long."""

import math
import random

import pytest

from dsrl.loop.balance import Row, Work, deal, work_of
from dsrl.models.rows import RowCost


def tokens_of(batch, rows, padded):
    """Tokens that a micro-batch computes."""
    sizes = [rows[number].tokens for number in batch]
    return (len(sizes) * max(sizes) if padded else sum(sizes)) if sizes else 0


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("seed", range(30))
def test_every_row_once_within_the_budget_and_as_many_micro_batches_on_each_rank(seed, padded):
    rng = random.Random(seed)
    rows = [
        Row(size, size**1.1) for size in (rng.choice([1, 7, rng.randint(1, 90)]) for _ in range(rng.randint(0, 60)))
    ]
    ranks, budget = rng.choice([1, 2, 5, 16]), rng.choice([1, 30, 100, 10_000])
    dealt = deal(rows, ranks=ranks, tokens=budget, padded=padded)
    assert len(dealt) == ranks and len({len(rounds) for rounds in dealt}) == 1
    batches = [batch for rounds in dealt for batch in rounds]
    assert sorted(number for batch in batches for number in batch) == list(range(len(rows)))
    assert all(len(batch) <= 1 or tokens_of(batch, rows, padded) <= budget for batch in batches)


def test_no_rows_are_no_micro_batches():
    assert deal([], ranks=3, tokens=10, padded=True) == deal([], ranks=3, tokens=10, padded=False) == [[], [], []]


def test_the_dealing_is_the_same_on_every_rank():
    rows = [Row(size, float(size)) for size in (5, 5, 5, 9, 1, 1, 30)]
    assert deal(rows, ranks=2, tokens=20, padded=True) == deal(list(rows), ranks=2, tokens=20, padded=True)


def lengths_of(seed, kept):
    """128 prompts x 8 responses: log-normal lengths, at most 8,192; with `kept` < 1, the wrong ones of mixed groups."""
    rng = random.Random(seed)
    found = []
    for _ in range(128):
        mean, prompt = rng.gauss(6.9, 0.5), min(1024, int(rng.lognormvariate(5.0, 0.5))) + 60
        responses = [min(8192, max(8, int(math.exp(rng.gauss(mean, 0.6))))) for _ in range(8)]
        if kept == "negative":
            right = rng.betavariate(1.2, 0.6)
            wrong = [size for size in responses if rng.random() > right]
            responses, prompt = wrong if len(wrong) < 8 else [], 1
        found += [prompt + size for size in responses]
    return found


@pytest.mark.parametrize(
    ("ranks", "kept", "padded", "most"),
    [
        (8, "all", False, 1.05),
        (8, "negative", False, 1.05),
        (64, "all", False, 1.15),
        (8, "all", True, 1.10),
        (8, "negative", True, 1.25),
        (64, "all", True, 1.25),
    ],
)
def test_the_slowest_rank_has_little_more_than_the_mean(ranks, kept, padded, most):
    ratios = []
    for seed in range(3):
        rows = [Row(size, float(size)) for size in lengths_of(seed, kept)]
        dealt = deal(rows, ranks=ranks, tokens=32_768, padded=padded)
        slowest = sum(
            max(tokens_of(batch, rows, padded) for batch in together) for together in zip(*dealt, strict=True)
        )
        ratios.append(slowest * ranks / sum(row.tokens for row in rows))
    assert 1.0 <= sum(ratios) / 3 < most


def test_the_work_of_a_pass():
    rows = [Row(4, 4.0), Row(3, 3.0), Row(2, 2.0)]
    dealt = [[[0, 1], []], [[2], []]]
    assert work_of(rows, dealt, padded=True) == Work(real=9, computed=10, slowest=16)
    assert work_of(rows, dealt, padded=False) == Work(real=9, computed=9, slowest=14)


def test_the_longest_row_is_the_bound_where_ranks_have_few():
    rows = [Row(100, 100.0)] + [Row(5, 5.0)] * 60  # 100 tokens each on 4 ranks
    for padded in (True, False):
        dealt = deal(rows, ranks=4, tokens=200, padded=padded)
        assert max(tokens_of(batch, rows, padded) for rounds in dealt for batch in rounds) == 100


def test_cost_and_not_length_alone_is_balanced():
    cost = RowCost(token=1.0, pair=1.0)
    rows = [Row(size, cost.of(size, [1], hidden_too=True)) for size in [40] * 2 + [10] * 16]
    dealt = deal(rows, ranks=2, tokens=1000, padded=False)
    totals = [sum(rows[number].cost for batch in rounds for number in batch) for rounds in dealt]
    assert totals[0] == pytest.approx(totals[1])


@pytest.mark.parametrize("hidden_too", [True, False])
def test_the_cost_of_a_row(hidden_too):
    cost = RowCost(token=10.0, pair=1.0)
    assert cost.of(4, [6], hidden_too=hidden_too) == 10 * 10 + 10 * 10 / 2
    shared = 10 * 16 + (16 * 16 if hidden_too else 4 * 4 / 2 + 2 * (4 * 6 + 6 * 6 / 2))
    assert cost.of(4, [6, 6], hidden_too=hidden_too) == shared
