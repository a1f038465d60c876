"""Confidence intervals of the few numbers that a report has: over questions, over iterations, over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dsrl.bounded_mean import FEW, mean_interval

T_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""The 97.5% quantile of Student's t for 1 to 30 degrees of freedom."""


EQUAL = 1e-9
"""Values that differ by less, relative to their mean, are equal."""


class Estimated(NamedTuple):
    """A mean, and how far its 95% interval reaches to either side; None where nothing says how much it varies."""

    value: float
    half: float | None


def mean_of(values: Sequence[float]) -> Estimated:
    """Estimate the mean of independent values, by Student's t; a single value, and equal ones, have no interval."""
    value = statistics.fmean(values)
    if len(values) < 2 or max(values) - min(values) <= EQUAL * abs(value):
        return Estimated(value, None)
    return Estimated(value, t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values)))


def difference_of(first: Mapping[object, float], second: Mapping[object, float]) -> Estimated:
    """Estimate the mean of the second less that of the first, each a value for each seed.

    Where both have the same seeds, at least two, the differences are paired by seed; else the interval is Welch's.
    """
    if len(first) > 1 and first.keys() == second.keys():
        return mean_of([second[seed] - first[seed] for seed in first])
    one, other = list(first.values()), list(second.values())
    value = statistics.fmean(other) - statistics.fmean(one)
    if min(len(one), len(other)) < 2:
        return Estimated(value, None)
    shares = [statistics.variance(values) / len(values) for values in (one, other)]
    if not sum(shares):
        return Estimated(value, None)
    spread = sum(share**2 / (len(values) - 1) for share, values in zip(shares, (one, other), strict=True))
    return Estimated(value, t_quantile(int(sum(shares) ** 2 / spread)) * math.sqrt(sum(shares)))


def average_half_width(pass_1: float, pass_2: float, k: int, questions: int) -> float:
    """Compute how far the 95% interval of avg@k over questions reaches to either side, for rewards of 0 and 1.

    pass@1 = E p and pass@2 = 2 E p - E p² over questions of success rate p, so that both give the variance of the
    mean of a question's k answers: Var p + E p(1 - p) / k. Where fewer than ten answers are right, or wrong, each is
    taken for one to a question of its own, and the reach is that of `mean_interval` to its farther end.
    """
    for share, low in ((pass_1, 0.0), (1 - pass_1, 1.0)):
        others = round(share * k * questions)
        if others < min(FEW, questions):
            means = [low] * (questions - others) + [abs(low - 1 / k)] * others
            return _reach(pass_1, *mean_interval(means))
    variance = max(0.0, 2 * pass_1 - pass_2 - pass_1**2) + max(0.0, pass_2 - pass_1) / k
    return 1.96 * math.sqrt(variance / questions)


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Compute Wilson's 95% interval of a share of things that are counted."""
    squared = 1.96**2
    center = (share + squared / (2 * count)) / (1 + squared / count)
    spread = max(0.0, share * (1 - share)) / count + squared / (4 * count**2)
    half = 1.96 * math.sqrt(spread) / (1 + squared / count)
    return max(0.0, center - half), min(1.0, center + half)


def share_half_width(share: float, count: int) -> float:
    """Compute how far Wilson's 95% interval of a share reaches to its farther end."""
    return _reach(share, *share_interval(share, count))


def _reach(value: float, low: float, high: float) -> float:
    return max(high - value, value - low)


def t_quantile(degrees: int) -> float:
    """Look up the 97.5% quantile of Student's t."""
    return T_QUANTILES[max(1, degrees) - 1] if degrees <= len(T_QUANTILES) else 1.96 + 2.5 / degrees
