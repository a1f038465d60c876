"""A metric's values out of the numbers of iterations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from dsrl.monitors.monitor import Numbers


class Change(NamedTuple):
    """The mean of a metric over the first and over the last iterations of a phase."""

    start: float
    now: float


def is_measured(key: str, numbers: Numbers) -> bool:
    """Whether an iteration has a metric that is no mean of nothing (NaN), as of rewards where there are none."""
    return key in numbers and not math.isnan(numbers[key])


def series(key: str, metrics: Numbers, history: Sequence[Numbers]) -> list[float]:
    """Return a metric's values in the iterations of a phase that have measured it, oldest first."""
    return [numbers[key] for numbers in (*history, metrics) if is_measured(key, numbers)]


def change_of(key: str, metrics: Numbers, history: Sequence[Numbers], window: int) -> Change | None:
    """Compare the first `window` values of a metric with the last; None where they are not apart yet."""
    values = series(key, metrics, history)
    if not is_measured(key, metrics) or len(values) < 2 * window:
        return None
    return Change(fmean(values[:window]), fmean(values[-window:]))


def keys_ending(metrics: Numbers, ending: str) -> list[str]:
    """List the metrics that an iteration has measured whose name is `ending`, or ends with it after a slash."""
    return [key for key in metrics if is_measured(key, metrics) and (key == ending or key.endswith(f"/{ending}"))]
