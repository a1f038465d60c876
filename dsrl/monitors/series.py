"""A metric's values out of the numbers of iterations."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from dsrl.monitors.monitor import Numbers


class Change(NamedTuple):
    """The mean of a metric over the first and over the last iterations of a phase."""

    start: float
    now: float


def series(key: str, metrics: Numbers, history: Sequence[Numbers]) -> list[float]:
    """Return a metric's values in the iterations of a phase that have it, oldest first."""
    return [numbers[key] for numbers in (*history, metrics) if key in numbers]


def change_of(key: str, metrics: Numbers, history: Sequence[Numbers], window: int) -> Change | None:
    """Compare the first `window` values of a metric with the last; None where they are not apart yet."""
    values = series(key, metrics, history)
    if key not in metrics or len(values) < 2 * window:
        return None
    return Change(fmean(values[:window]), fmean(values[-window:]))


def keys_ending(metrics: Numbers, ending: str) -> list[str]:
    """List the metrics of an iteration whose name is `ending`, or ends with it after a slash."""
    return [key for key in metrics if key == ending or key.endswith(f"/{ending}")]
