"""Intervals of bounded means against Clopper and Pearson's, the sign test, bounds by hand, and their own coverage."""

from math import comb

import numpy as np
import pytest

from dsrl.bootstrap import resampled_means
from dsrl.bounded_mean import CHANGE, beta_quantile, few_differ, mean_interval, mean_p, ratio_interval


def at_least(successes, trials, chance):
    return sum(comb(trials, n) * chance**n * (1 - chance) ** (trials - n) for n in range(successes, trials + 1))


@pytest.mark.parametrize(
    ("right", "questions", "low", "high"),
    [  # published tables of Clopper and Pearson's interval
        (0, 60, 0.0, 0.0596),
        (60, 60, 0.9404, 1.0),
        (1, 60, 0.0004, 0.0894),
        (59, 60, 0.9106, 0.9996),
        (0, 10, 0.0, 0.3085),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (10, 10, 0.6915, 1.0),
        (0, 30, 0.0, 0.1157),
        (3, 30, 0.0211, 0.2653),
        (0, 2, 0.0, 0.8419),
        (2, 20, 0.0123, 0.3170),
        (0, 1000, 0.0, 0.0037),
    ],
)
def test_of_right_and_wrong_it_is_clopper_and_pearsons(right, questions, low, high):
    found = mean_interval([1.0] * right + [0.0] * (questions - right))
    assert found == pytest.approx((low, high), abs=6e-5)
    if right:  # its definition: as many right, or more, would be as rare as 2.5%
        assert at_least(right, questions, found.low) == pytest.approx(0.025)
    if right < questions:
        assert 1 - at_least(right + 1, questions, found.high) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("values", "within", "low", "high"),
    [
        ([0.0] * 60, CHANGE, -0.0596, 0.0596),  # no question differs between two models
        ([1.0] + [0.0] * 59, CHANGE, None, 0.0894),
        ([0.0] * 59 + [-1.0], CHANGE, -0.0894, None),
        ([0.25] * 60, (0.0, 1.0), 0.25 - 0.0596 * 0.25, 0.25 + 0.0596 * 0.75),
        ([0.0] * 60, (-1.0, 1.0), -0.0596, 0.0596),
        ([-1.0] * 60, (0.0, 1.0), -1.0, -1 + 2 * 0.0596),  # rewards of -1 and 1: the range goes as far as they do
        ([2.0] * 60, (0.0, 1.0), 2 - 2 * 0.0596, 2.0),
        ([1.0] * 59 + [0.0], (0.0, 1.0), 0.9106, 0.9996),
        ([0.5] * 59 + [1.0], (0.0, 1.0), None, 0.5 + 0.0894 / 2),
    ],
)
def test_ends_that_are_known(values, within, low, high):
    found = mean_interval(values, within)
    assert low is None or found.low == pytest.approx(low, abs=1e-4)
    assert high is None or found.high == pytest.approx(high, abs=1e-4)
    assert found.low < np.mean(values) or found.low == np.mean(values) == min(*values, *within)
    assert found.high > np.mean(values) or found.high == np.mean(values) == max(*values, *within)


def test_one_answer_of_eight_to_one_of_sixty_questions_lies_between_none_and_one_whole_question():
    found = mean_interval([1 / 8] + [0.0] * 59)
    assert 0 < found.low < 1 / 480 and 0.0596 < found.high < 0.0894


@pytest.mark.parametrize(("better", "worse"), [(1, 0), (4, 0), (6, 0), (5, 1), (8, 2), (3, 3)])
def test_of_questions_that_changed_sides_p_is_the_sign_tests(better, worse):
    found = mean_p([1.0] * better + [-1.0] * worse + [0.0] * 100, 0.0)
    sign_test = min(1.0, 2 * at_least(max(better, worse), better + worse, 0.5))
    assert found >= 0.8 * sign_test - 0.01  # which leaves out the questions that did not change
    if not worse:
        assert found == pytest.approx(sign_test, abs=0.01)


def test_no_difference_is_no_evidence():
    assert mean_p([0.0] * 128, 0.0) == 1.0
    assert mean_p([1.0] * 128, 0.0) == pytest.approx(1e-4)  # the least of 20,000 draws


def test_beta_quantiles():
    assert beta_quantile(0.975, 1, 60) == pytest.approx(1 - 0.025 ** (1 / 60), abs=1e-12)
    assert beta_quantile(0.5, 7, 7) == pytest.approx(0.5, abs=1e-12)
    assert beta_quantile(0.025, 5, 6) == pytest.approx(1 - beta_quantile(0.975, 6, 5), abs=1e-12)


def test_few_are_less_than_ten_beside_the_most_common():
    assert few_differ([0.0] * 50 + [1.0] * 9) and not few_differ([0.0] * 50 + [1.0] * 10)
    assert few_differ([0.5] * 3) and not few_differ(range(11))


def test_a_share_of_unequal_questions():
    """All questions hold as many: that of their shares. Else the question that is added holds as many as the mean."""
    below = np.array([2.0] * 20)
    assert ratio_interval(np.zeros(20), below) == mean_interval([0.0] * 20)
    unequal = ratio_interval(np.zeros(20), np.array([1.0, 3.0] * 10))
    assert unequal.low == 0 and unequal.high == pytest.approx(1 - 0.025 ** (1 / 20), rel=0.1)


@pytest.mark.parametrize(("chance", "k"), [(0.005, 1), (0.02, 4), (0.98, 4)])
def test_it_holds_the_truth_as_often_as_it_says(chance, k):
    """Sixty questions of chances of their own (all or nothing), k answers each; a bootstrap misses far more often."""
    generator, held, held_by_bootstrap, times = np.random.default_rng(0), 0, 0, 100
    for _ in range(times):
        chances = (generator.random(60) < chance) * 0.9 + 0.05 * chance
        means = generator.binomial(k, chances) / k
        truth = chance * 0.9 + 0.05 * chance
        low, high = mean_interval(means)
        held += low <= truth <= high
        low, high = np.quantile(resampled_means(means[:, None], 200), [0.025, 0.975])
        held_by_bootstrap += low <= truth <= high
    assert held / times >= 0.93
    assert held_by_bootstrap < held
