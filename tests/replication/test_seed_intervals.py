"""Intervals whose width is known, and verdicts on either side of each line."""

import math

import numpy as np
import pytest

from dsrl.bounded_mean import CHANGE, SHARE
from dsrl.replication.bootstrap import Interval, log_ratio, over_seeds_and_questions
from dsrl.replication.verdicts import holm, seeds_to_decide, verdict


def test_of_one_seed_the_interval_is_that_of_the_mean_over_questions():
    values = np.random.default_rng(1).normal(0.3, 1.0, (1, 400))
    found = over_seeds_and_questions(values)
    error = values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(error, rel=0.05)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_where_seeds_alone_differ_the_interval_is_students_of_their_mean():
    values = np.repeat(np.array([[0.1], [0.2], [0.6]]), 50, axis=1)
    found = over_seeds_and_questions(values)
    assert found.value == pytest.approx(0.3)
    half = 4.303 * values[:, 0].std(ddof=1) / math.sqrt(3)  # two degrees of freedom
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
    assert found.error == pytest.approx((found.high - found.low) / (2 * 1.96))


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("of_seeds", [0.0, 0.03, 0.1], ids=["seeds agree", "seeds differ", "seeds decide"])
def test_intervals_hold_the_truth_as_often_as_they_say(of_seeds, seeds):
    """Values vary by .05 between questions and by .15 within; a p as small as claims need is as rare as it says."""
    generator, outside, small, runs = np.random.default_rng(5), 0, 0, 300
    for _ in range(runs):
        shapes = ((of_seeds, (seeds, 1)), (0.05, (1, 64)), (0.15, (seeds, 64)))
        found = over_seeds_and_questions(sum(generator.normal(0, s, shape) for s, shape in shapes), resamples=1000)
        outside, small = outside + (not found.low <= 0 <= found.high), small + (found.p <= 0.05 / 4)
    assert outside / runs <= 0.09 and small / runs <= 0.045


def test_p_is_small_away_from_the_null_and_never_zero():
    values = np.random.default_rng(0).normal(1.0, 0.1, (3, 50))
    assert over_seeds_and_questions(values).p == pytest.approx(2e-4)
    assert over_seeds_and_questions(values, null=float(values.mean())).p > 0.9


def test_a_ratio_is_that_of_sums_and_its_interval_that_of_its_logarithm():
    thoughts, base = np.full((2, 30), 6.0), np.full((2, 30), 2.0)
    found = log_ratio([thoughts], [base])
    assert (found.value, found.low, found.high) == pytest.approx((math.log(3),) * 3)
    tokens, of_base = np.full((2, 30), 50.0), np.full((2, 30), 100.0)
    assert log_ratio([thoughts, of_base], [base, tokens]).value == pytest.approx(math.log(6))


def test_a_ratio_to_nothing_is_infinite_and_says_so():
    found = log_ratio([np.ones((1, 4))], [np.zeros((1, 4))])
    assert found.value == math.inf and found.high == math.inf


def interval(value, error):
    return Interval(value=value, low=value - 1.96 * error, high=value + 1.96 * error, error=error, p=0.5)


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(
    ("value", "error", "p", "margin", "expected"),
    [
        (0.1, 0.01, 0.001, 0.02, "reproduced"),
        (-0.1, 0.01, 0.001, 0.02, "contradicted"),
        (0.001, 0.005, 0.9, 0.02, "equivalent"),
        (0.015, 0.005, 0.2, 0.02, "undecided"),  # 0.015 + 1.645 * 0.005 is above the margin
        (0.001, 0.005, 0.9, None, "undecided"),
    ],
)
def test_verdicts(value, error, p, margin, expected):
    assert verdict(interval(value, error), p, margin=margin) == expected


def test_seeds_that_would_decide():
    # An effect of one standard error needs 3.34² as many seeds, where p must be below 0.05 / 4.
    assert seeds_to_decide(interval(0.05, 0.05), 3) == math.ceil(3 * 3.34**2)
    # One below the margin is shown to be so where 1.645 errors fit between: (1.645 * 0.01 / 0.01)² = 2.7 times.
    assert seeds_to_decide(interval(0.01, 0.01), 4, margin=0.02) == math.ceil(4 * 1.645**2)
    for nothing in (0.0, 1e-17, 1e-200):
        assert seeds_to_decide(interval(nothing, 0.01), 3) is None


@pytest.mark.parametrize(
    ("values", "null", "within", "low", "high", "p"),
    [
        (np.zeros((3, 128)), 0.0, CHANGE, -0.0284, 0.0284, 1.0),  # Clopper and Pearson's, of 0 in 128
        (np.zeros((3, 60)), 0.0, SHARE, 0.0, 0.0596, 1.0),
        (np.ones((2, 60)), 0.0, SHARE, 0.9404, 1.0, None),
        (np.tile([1.0] * 4 + [0.0] * 124, (3, 1)), 0.0, CHANGE, None, 0.0781, 0.125),  # the sign test's, of 4 in 4
    ],
)
def test_where_questions_agree_the_interval_and_p_are_exact(values, null, within, low, high, p):
    found = over_seeds_and_questions(values, null, within=within)
    assert low is None or found.low == pytest.approx(low, abs=1e-4)
    assert found.high == pytest.approx(high, abs=1e-4)
    assert p is None or found.p == pytest.approx(p, abs=0.01)


def test_as_common_values_are_taken_alike_on_either_side():
    values = np.tile([0.0] * 6 + [0.5] * 6, (3, 1))
    up, down = (over_seeds_and_questions(own, within=CHANGE) for own in (values, -values))
    assert up.p == pytest.approx(down.p, abs=0.01)
    assert (up.low, up.high) == pytest.approx((-down.high, -down.low), abs=0.01)


def test_equal_accuracies_of_60_questions_are_not_equivalent():
    """They may differ by 0.0596, which is more than the margin; of 1,000 questions by 0.0037."""
    few, many = (over_seeds_and_questions(np.zeros((3, count)), within=CHANGE) for count in (60, 1000))
    assert verdict(few, 1.0, margin=0.02) == "undecided" and verdict(many, 1.0, margin=0.02) == "equivalent"
