"""Means over questions that hold several of what is counted."""

import math

import pytest

from dsrl.bootstrap import estimates, ratio_estimates


def test_with_one_of_each_question_it_is_the_mean_over_questions():
    values = [0.1, 0.7, 0.3, 0.9, 0.2]
    one, other = ratio_estimates({"a": (values, [1.0] * 5)})["a"], estimates({"a": values})["a"]
    for field in ("value", "stderr", "low", "high"):
        assert getattr(one, field) == pytest.approx(getattr(other, field))


def test_questions_that_hold_more_weigh_more():
    found = ratio_estimates({"a": ([10.0, 0.0], [10.0, 30.0]), "b": ([1.0, 1.0], [2.0, 2.0])})
    assert found["a"].value == 0.25 and (found["a"].low, found["a"].high) == (0.0, 1.0)
    assert found["b"].value == 0.5 and math.isnan(found["b"].low) and math.isnan(found["b"].stderr)


def test_what_nothing_was_counted_of_is_left_out_and_one_question_has_no_interval():
    found = ratio_estimates({"none": ([0.0] * 3, [0.0] * 3), "one": ([2.0, 0.0, 0.0], [4.0, 0.0, 0.0])})
    assert list(found) == ["one"] and found["one"].value == 0.5
    assert math.isnan(found["one"].low) and math.isnan(found["one"].stderr)
    assert ratio_estimates({}) == {}
