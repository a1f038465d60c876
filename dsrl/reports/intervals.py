"""Confidence intervals of the few numbers that a report has: over questions, over iterations, over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

T_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""The 97.5% quantile of Student's t for 1 to 30 degrees of freedom."""


class Estimated(NamedTuple):
    """A mean, and half the width of its 95% interval; None where nothing says how much it varies."""

    value: float
    half: float | None


def mean_of(values: Sequence[float]) -> Estimated:
    """Estimate the mean of independent values, by Student's t; a single value has no interval."""
    value = statistics.fmean(values)
    if len(values) < 2:
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
        return Estimated(value, 0.0)
    spread = sum(share**2 / (len(values) - 1) for share, values in zip(shares, (one, other), strict=True))
    return Estimated(value, t_quantile(int(sum(shares) ** 2 / spread)) * math.sqrt(sum(shares)))


def average_half_width(pass_1: float, pass_2: float, k: int, questions: int) -> float:
    """Compute half the 95% interval of avg@k over questions, for rewards of 0 and 1.

    pass@1 = E p and pass@2 = 2 E p - E p² over questions of success rate p, so that both give the variance of the
    mean of a question's k answers: Var p + E p(1 - p) / k.
    """
    variance = max(0.0, 2 * pass_1 - pass_2 - pass_1**2) + max(0.0, pass_2 - pass_1) / k
    return 1.96 * math.sqrt(variance / questions)


def share_half_width(share: float, questions: int) -> float:
    """Compute half of Wilson's 95% interval of a share of questions, such as pass@k of k answers."""
    squared = 1.96**2
    spread = max(0.0, share * (1 - share)) / questions + squared / (4 * questions**2)
    return 1.96 * math.sqrt(spread) / (1 + squared / questions)


def t_quantile(degrees: int) -> float:
    """Look up the 97.5% quantile of Student's t."""
    return T_QUANTILES[max(1, degrees) - 1] if degrees <= len(T_QUANTILES) else 1.96 + 2.5 / degrees
