"""Conditions, on histories worked out by hand."""

import math

import pytest

from dsrl.errors import ConfigError
from dsrl.phases.conditions import Drop, Plateau, Threshold


@pytest.mark.parametrize(
    ("condition", "history", "met"),
    [
        (Threshold(above=0.5), [], False),
        (Threshold(above=0.5), [0.9, 0.5], False),
        (Threshold(above=0.5), [0.1, 0.51], True),
        (Threshold(below=0.5), [0.1, 0.5], False),
        (Threshold(below=0.5), [0.9, 0.49], True),
        (Plateau(patience=2, min_delta=0.25), [0.5, 0.5], False),
        (Plateau(patience=2, min_delta=0.25), [0.5, 0.5, 0.75], True),
        (Plateau(patience=2, min_delta=0.25), [0.5, 0.5, 0.8], False),
        (Plateau(patience=2, min_delta=0.25), [0.9, 0.1, 0.8], True),
        (Drop(by=0.25, window=1), [1.0, 0.75], False),
        (Drop(by=0.25, window=1), [1.0, 0.5], True),
        (Drop(by=0.25, window=2), [], False),
        (Drop(by=0.25, window=2), [1.0], False),
        (Drop(by=0.25, window=2), [1.0, 1.0, 0.5], False),  # means 1.0, 0.75
        (Drop(by=0.25, window=2), [1.0, 1.0, 0.4], True),  # means 1.0, 0.7
        (Drop(by=0.25, window=2), [1.0, 1.0, 0.4, 1.0], True),  # means 1.0, 0.7, 0.7
        (Drop(by=0.25, window=2), [1.0, 1.0, 0.0, 1.0, 1.0], False),  # back at its best
    ],
)
def test_met(condition, history, met):
    assert condition.met(history) is met


@pytest.mark.parametrize(("ran", "value", "due"), [(2, 0.9, False), (3, 0.9, True), (4, 0.1, False), (5, 0.1, True)])
def test_due_not_before_earliest_and_at_latest_at_latest(ran, value, due):
    assert Threshold(above=0.5, earliest=3, latest=5).due(ran, [value]) is due


@pytest.mark.parametrize(
    ("condition", "history", "due"),
    [
        (Drop(by=0.05, window=2), [math.nan, 0.6, 0.6, 0.2, 0.2], True),
        (Drop(by=0.05, window=2), [0.6, 0.6, math.nan, 0.6, 0.6], False),
        (Plateau(patience=1, min_delta=0.01), [math.nan, 0.5, 0.5], True),
        (Plateau(patience=1, min_delta=0.01), [math.nan, 0.5], False),
        (Threshold(below=0.5), [0.4, math.nan], True),
    ],
)
def test_an_iteration_without_a_value_is_as_if_it_were_not_there(condition, history, due):
    assert condition.due(len(history), history) is due
    if due:
        assert "nan" not in condition.reason(len(history), history)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Threshold(), "give above=VALUE or below=VALUE"),
        (lambda: Drop(earliest=0), "earliest must be at least 1 iteration, not 0"),
        (lambda: Drop(earliest=3, latest=2), "latest=2 comes before earliest=3"),
        (lambda: Drop(window=0), "window must be at least 1, not 0"),
        (lambda: Plateau(patience=0), "patience must be at least 1, not 0"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("condition", "ran", "history", "reason"),
    [
        (Threshold(above=0.5), 3, [0.1, 0.51], "reward/mean is 0.51, above 0.5"),
        (Threshold(above=0.5, below=0.2), 3, [0.3, 0.1], "reward/mean is 0.1, below 0.2"),
        (Drop(by=0.25), 3, [1.0, 1.0, 0.4], "reward/mean fell from 1 to 0.7, by more than 0.25"),
        (Plateau(patience=2), 3, [0.9, 0.1, 0.8], "reward/mean has not risen above 0.9 by 0.01 in its last 2 values"),
        (Threshold(above=0.5, latest=3), 3, [], "latest=3: it had 3 iterations"),
    ],
)
def test_the_reason_has_the_value_that_ended_the_phase(condition, ran, history, reason):
    assert condition.due(ran, history)
    assert condition.reason(ran, history) == reason
