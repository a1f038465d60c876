"""How tokens become a scalar: hand-worked means, and shares that add up however the batch is cut."""

import pytest
import torch

from dsrl import build
from dsrl.types import Counts

NAMES = ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "constant")
LOSSES = torch.tensor([[1.0, 2.0, 99.0, 99.0], [3.0, 4.0, 5.0, 6.0], [99.0, 99.0, 99.0, 99.0], [7.0, 99.0, 99.0, 99.0]])
MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
LOSSES = LOSSES.double()


def aggregate(name, losses, mask, counts):
    return build("aggregate", name)(losses, mask, counts)


# Token sums 3, 18, 0, 7 over 2, 4, 0, 1 tokens.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token_mean", 28 / 7),
        ("seq_mean_token_mean", (1.5 + 4.5 + 7.0) / 3),
        ("seq_mean_token_sum", 28 / 3),
        ("constant", 28 / (4 * 10)),  # the empty response is a sample
    ],
)
@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
def test_by_hand(name, expected, dtype):
    counts = Counts.of(MASK, max_new_tokens=10)
    assert aggregate(name, LOSSES, MASK.to(dtype), counts).item() == pytest.approx(expected, abs=1e-12)


def test_counts_of_a_batch():
    assert Counts.of(MASK, 10) == Counts(tokens=7.0, sequences=3.0, samples=4.0, max_new_tokens=10)
    assert Counts.of(MASK).max_new_tokens == 4


@pytest.mark.parametrize("name", NAMES)
def test_the_denominator_is_the_given_count_not_the_rows_here(name):
    counts = Counts.of(MASK, max_new_tokens=10)
    twice = Counts(tokens=14.0, sequences=6.0, samples=8.0, max_new_tokens=10)
    whole = aggregate(name, LOSSES, MASK, counts)
    assert aggregate(name, LOSSES, MASK, twice).item() == pytest.approx(whole.item() / 2, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [[[0], [1], [2], [3]], [[3, 0], [2, 1]], [[2], [0, 1, 3]], [[], [0, 1, 2, 3]]])
def test_shares_add_up(name, cut):
    counts = Counts.of(MASK, max_new_tokens=10)
    whole = aggregate(name, LOSSES, MASK, counts).item()
    shares = sum(aggregate(name, LOSSES[rows], MASK[rows], counts).item() for rows in cut)
    assert shares == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_shares_do_not_depend_on_the_padding(name):
    counts = Counts.of(MASK, max_new_tokens=10)
    losses = torch.nn.functional.pad(LOSSES, (0, 5), value=99.0)
    wider = aggregate(name, losses, torch.nn.functional.pad(MASK, (0, 5)), counts)
    assert wider.item() == pytest.approx(aggregate(name, LOSSES, MASK, counts).item(), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("garbage", [float("nan"), float("inf")])
def test_what_is_masked_is_never_read(name, garbage):
    losses = LOSSES.masked_fill(MASK == 0, garbage).requires_grad_()
    counts = Counts.of(MASK, max_new_tokens=10)
    share = aggregate(name, losses, MASK, counts)
    share.backward()
    assert share.item() == pytest.approx(aggregate(name, LOSSES, MASK, counts).item(), abs=1e-12)
    assert losses.grad[MASK == 0].abs().sum() == 0
    assert (losses.grad[MASK == 1] > 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [0, 2])
def test_nothing_kept_is_a_differentiable_zero(name, rows):
    losses = torch.ones(rows, 3, requires_grad=True)
    mask = torch.zeros(rows, 3, dtype=torch.bool)
    share = aggregate(name, losses, mask, Counts(tokens=0.0, sequences=0.0, samples=0.0, max_new_tokens=8))
    share.backward()
    assert share.item() == 0.0
    assert losses.grad.abs().sum() == 0


@pytest.mark.parametrize(("name", "expected"), [(name, 5.0) for name in NAMES[:3]] + [("constant", 0.5)])
def test_one_token(name, expected):
    counts = Counts.of(torch.ones(1, 1), max_new_tokens=10)
    assert aggregate(name, torch.tensor([[5.0]]), torch.ones(1, 1), counts).item() == expected
