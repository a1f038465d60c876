"""Each monitor on made-up numbers: what makes it warn, and what does not."""

from __future__ import annotations

import math

import pytest

from dsrl import build
from dsrl.errors import ConfigError
from dsrl.monitors import Monitor
from dsrl.registry import names

CALM = {
    "reward/mean": 0.5,
    "reward/std": 0.5,
    "reward/failed": 0.0,
    "conditional/entropy": 0.5,
    "conditional/logprob": -0.5,
    "group/all_right": 0.1,
    "group/all_wrong": 0.2,
    "group/length_correlation": 0.0,
    "scored/fraction": 0.7,
    "response/length_mean": 100.0,
    "response/truncated": 0.0,
    "grad_norm": 0.1,
    "clip/fraction": 0.05,
    "mismatch/mean": 0.03,
    "mismatch/capped": 0.01,
    "tokens/sampled": 1000.0,
    "time/sample": 1.0,
    "time/update": 1.0,
}


def warnings_of(monitor: str | dict, iterations: int, **series) -> list[int]:
    """The iterations in which a monitor warns of numbers that are calm but for `series`: each a list of values, of
    which the last holds on, and None is an iteration without the metric.
    """
    lines = [dict(CALM) for _ in range(iterations)]
    for key, values in series.items():
        for line, place in zip(lines, range(iterations), strict=True):
            line[key] = values[min(place, len(values) - 1)]
    lines = [{key: value for key, value in line.items() if value is not None} for line in lines]
    built = build("monitor", monitor)
    return [place for place, line in enumerate(lines) if built.observe(line, lines[:place])]


@pytest.mark.parametrize("monitor", names("monitor"))
def test_calm_numbers_make_none_warn(monitor):
    assert warnings_of(monitor, 30) == []


@pytest.mark.parametrize("monitor", names("monitor"))
def test_no_history_and_few_numbers_make_none_warn(monitor):
    few = ("reward/mean", "reward/std", "group/all_right", "group/all_wrong", "scored/fraction", "tokens/sampled")
    assert build("monitor", monitor).observe({key: CALM[key] for key in few}, []) is None


@pytest.mark.parametrize(
    ("monitor", "series", "first"),
    [
        # means of two iterations: those of places 2 and 3, 0.65, are 1.3 times 0.5, which is not above it
        ("entropy", {"conditional/entropy": [0.5, 0.5, 0.6, 0.7, 0.8]}, 4),
        ("entropy", {"marginal/entropy": [1.0, 1.0, 1.0, 0.2]}, 4),
        # the excess: 0, 0, 0.02, 0.1, 0.15
        (
            "logprob",
            {"marginal/logprob": [-0.6, -0.6, -0.6, -0.66, -0.7], "marginal/entropy": [0.6, 0.6, 0.58, 0.56, 0.55]},
            4,
        ),
        ("reward", {"reward/mean": [0.5, 0.5, 0.5, 0.5, 0.3]}, 5),
        ("length", {"response/length_mean": [100.0, 100.0, 400.0]}, 3),
        ("length", {"response/length_mean": [100.0, 100.0, 10.0]}, 3),
        ("truncation", {"response/truncated": [0.4]}, 1),
        ("signal", {"group/all_wrong": [1.0], "reward/std": [0.0]}, 2),
        ("signal", {"group/all_right": [0.5, 0.96], "reward/std": [0.5, 0.1]}, 3),
        ("signal", {"scored/fraction": [0.5, 0.0]}, 3),
        ("length_reward", {"group/length_correlation": [0.8], "response/length_mean": [100.0] * 4 + [150.0]}, 7),
        ("length_reward", {"group/length_correlation": [-0.8], "response/length_mean": [100.0] * 4 + [60.0]}, 7),
        ("mismatch", {"mismatch/mean": [0.03, None, 0.2]}, 2),
        ("ratio", {"clip/fraction": [0.0, 0.5]}, 2),
        ("ratio", {"GRPO0/clip/fraction": [0.5]}, 1),
        ("ratio", {"mismatch/capped": [0.5]}, 1),
        ("gradient", {"grad_norm": [0.1, 0.0, 0.2, 0.1, 0.1, 0.9, 0.1]}, 5),
        ("verifier", {"reward/failed": [0.0, 0.81]}, 1),
        ("verifier", {"reward/code/failed": [0.2]}, 0),
        ("throughput", {"time/sample": [1.0] * 10 + [4.0]}, 19),
    ],
)
def test_what_makes_it_warn(monitor, series, first):
    assert warnings_of(monitor, 25, **series)[:1] == [first]


@pytest.mark.parametrize(
    ("monitor", "series"),
    [
        ("entropy", {"conditional/entropy": [1.0, 1.0, 0.5, 0.1], "reward/mean": [0.3, 0.3, 0.5, 0.9]}),  # it learns
        ("entropy", {"marginal/entropy": [None, None, 0.5]}),
        ("logprob", {"marginal/logprob": [-0.6, -0.6, -0.9], "marginal/entropy": [0.6, 0.6, 0.9]}),  # entropy tells it
        ("logprob", {"conditional/logprob": [-0.5, -0.5, -0.9]}),  # of kept answers, which are wrong ones
        ("reward", {"reward/mean": [0.5, 0.5, 0.5, 0.3, 0.5]}),  # one batch of hard questions
        ("length", {"response/length_mean": [100.0, 150.0, 200.0, 250.0]}),
        ("truncation", {"response/truncated": [0.4, 0.1, 0.4, 0.1]}),
        ("signal", {"group/all_wrong": [1.0, 1.0, 0.8], "reward/std": [0.0, 0.0, 0.4]}),
        ("signal", {"group/all_wrong": [1.0], "reward/std": [0.3]}),  # rewards between 0 and 0.5
        ("length_reward", {"group/length_correlation": [0.8]}),  # no longer than before
        ("length_reward", {"group/length_correlation": [-0.8], "response/length_mean": [100.0] * 4 + [150.0]}),
        ("length_reward", {"group/length_correlation": [0.8, None], "response/length_mean": [100.0] * 4 + [150.0]}),
        ("ratio", {"clip/fraction": [0.0, 0.5, 0.0]}),
        ("gradient", {"grad_norm": [0.1, 0.1, 0.9, 0.1]}),  # too early to know what is usual
        ("gradient", {"grad_norm": [0.1, 0.1, 0.1, 0.1, 0.1, 0.7]}),
        ("throughput", {"time/sample": [1.0] * 15 + [9.0, 1.0]}),  # something else held one iteration up
        ("throughput", {"time/iteration": [2.0] * 12 + [90.0]}),  # a validation
    ],
)
def test_what_does_not(monitor, series):
    assert warnings_of(monitor, 25, **series) == []


OF_REWARDS = ("reward/mean", "reward/std", "group/all_right", "group/all_wrong")


@pytest.mark.parametrize("monitor", names("monitor"))
def test_an_iteration_without_any_reward_makes_none_warn(monitor):
    unknown = {key: [math.nan, CALM[key]] for key in OF_REWARDS}
    assert warnings_of(monitor, 25, **unknown, **{"scored/fraction": [0.0, 0.7]}) == []
    always = {key: [math.nan] for key in OF_REWARDS}
    assert warnings_of(monitor, 25, **always, **{"scored/fraction": [0.0]}) == []


def test_such_an_iteration_hides_no_fall():
    assert warnings_of("reward", 8, **{"reward/mean": [math.nan, 0.5, 0.5, 0.5, math.nan, 0.3]})[:1] == [6]


def test_a_warning_says_the_figure_why_and_what_to_do():
    lines = [dict(CALM) for _ in range(4)]
    for line, entropy in zip(lines, (0.5, 0.5, 1.0, 1.5), strict=True):
        line["marginal/entropy"] = entropy
    warning = build("monitor", "entropy").observe(lines[3], lines[:3])
    assert warning.metric == "marginal/entropy" and warning.value == 1.25
    assert warning.figure == "marginal/entropy went from 0.5 to 1.25 nats a token since the phase began"
    assert warning.why.endswith(".") and "monitors.entropy.action=handoff" in warning.remedy


def test_the_slowest_stage_is_named():
    lines = [{**CALM, "time/update": 1.0 if place < 10 else 5.0} for place in range(20)]
    warning = build("monitor", "throughput").observe(lines[-1], lines[:-1])
    assert warning.figure == ("167 tokens a second, where the phase began with 500; most of the loss is in time/update")


def test_thresholds_are_parameters():
    assert warnings_of({"name": "truncation", "share": 0.6, "window": 1}, 5, **{"response/truncated": [0.5]}) == []
    assert warnings_of({"name": "truncation", "share": 0.4, "window": 1}, 2, **{"response/truncated": [0.5]}) == [0, 1]


def test_an_impossible_value_is_refused():
    with pytest.raises(ConfigError, match=r"action=halt: allowed are off, warn, handoff, stop"):
        build("monitor", {"name": "entropy", "action": "halt"})
    with pytest.raises(ConfigError, match="window must be at least 1 iteration, not 0"):
        build("monitor", {"name": "reward", "window": 0})


def test_every_built_in_one_is_a_monitor_that_warns_by_default():
    for name in names("monitor"):
        built = build("monitor", name)
        assert isinstance(built, Monitor) and built.action == "warn"
