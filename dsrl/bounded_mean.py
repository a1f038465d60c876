"""The interval of a mean of bounded values where few of them differ, which a bootstrap takes for certain.

Letters: Q questions, R draws.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONFIDENCE = 0.95
"""Of the intervals."""
NORMAL = 1.96
"""Standard errors in half of such an interval."""
FEW = 10
"""From as many questions on that differ from the most common value, a bootstrap knows how much they vary."""
DRAWS = 20_000
"""R, where there is no closed form."""

Range = tuple[float, float]
SHARE: Range = (0.0, 1.0)
"""The range of a share, and of a reward."""
CHANGE: Range = (-1.0, 1.0)
"""The range of the difference of two shares."""


class Bounds(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


def few_differ(values: Sequence[float] | Array, common: Collection[float] = ()) -> bool:
    """Tell whether so few values differ from the most common one that a bootstrap would be too sure.

    Where `common` is given, that one, or one that is as common, must be among it.
    """
    found, counts = np.unique(_exact(values), return_counts=True)
    few = int(counts.sum() - counts.max()) < FEW
    return few and (not common or any(float(value) in common for value in found[counts == counts.max()]))


def mean_interval(values: Sequence[float] | Array, within: Range = SHARE) -> Bounds:
    """Bound the mean of which Q independent values are a sample, at 95% confidence.

    Each end is a quantile of the mean of the values and one more at the end of their range, with weights uniform on the
    simplex (Gaffke 2005; arXiv 2106.03163). Of values 0 and 1 that is the interval of Clopper and Pearson: of 0 right
    among 60 from 0 to 1 - 0.025^(1/60) = 0.0596.

    Args:
        values: Q of them, at least one.
        within: the least and the greatest possible value; where the values themselves go further, as far as they go.
    """
    own = _exact(values)
    least, most = min(within[0], float(own.min())), max(within[1], float(own.max()))
    return Bounds(0.0 - _upper(-own, -least), _upper(own, most))


def ratio_interval(above: Array, below: Array) -> Bounds:
    """Bound a share of what several questions hold, such as right ones among answers that reconsider.

    Args:
        above: [Q], how many of those a question holds are so.
        below: [Q], how many it holds, above 0; the question that is added to both ends holds the mean of them.
    """
    if (below == below[0]).all():
        return mean_interval(above / below)
    weights = np.random.default_rng(0).standard_exponential((DRAWS, len(below) + 1))
    more = weights[:, -1] * below.mean()
    top, whole = weights[:, :-1] @ above, weights[:, :-1] @ below + more
    tail = (1 - CONFIDENCE) / 2
    return Bounds(float(np.quantile(top / whole, tail)), float(np.quantile((top + more) / whole, 1 - tail)))


def mean_p(values: Sequence[float] | Array, null: float, within: Range = CHANGE) -> float:
    """Test whether the mean of which the values are a sample is `null`: the two-sided p-value that belongs to
    `mean_interval`. Of differences -1, 0 and 1 in one direction alone that is the sign test's.
    """
    own = _exact(values)
    least, most = min(within[0], float(own.min())), max(within[1], float(own.max()))
    below, above = -_draws(-own, -least), _draws(own, most)
    return float(min(1.0, 2 * max(min((below <= null).mean(), (above >= null).mean()), 1 / DRAWS)))


def beta_quantile(level: float, a: int, b: int) -> float:
    """Find the quantile of Beta(a, b), a and b whole and at least 1, by bisection.

    Beta(a, b) is below x as often as at least `a` of a + b - 1 draws succeed that each succeed with probability x.
    """
    trials = a + b - 1
    lower_tail = a <= b
    counts = np.arange(a) if lower_tail else np.arange(a, trials + 1)
    choose = np.array([math.lgamma(trials + 1) - math.lgamma(n + 1) - math.lgamma(trials - n + 1) for n in counts])
    low, high = 0.0, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        sum_of_terms = float(np.exp(choose + counts * math.log(middle) + (trials - counts) * math.log1p(-middle)).sum())
        reached = (1 - sum_of_terms if lower_tail else sum_of_terms) >= level
        low, high = (low, middle) if reached else (middle, high)
    return high


def _exact(values: Sequence[float] | Array) -> Array:
    """The values without what rounding has added: 0.6 - 0.4 is 0.4 - 0.2."""
    return np.array(values, dtype=np.float64).round(12)


def _upper(values: Array, most: float) -> float:
    """The upper end, where no value is above `most`; in closed form where those below it are equal."""
    others = values[values < most]
    if not len(others):
        return most
    level = (1 + CONFIDENCE) / 2
    if (others == others[0]).all():
        return float(others[0] + (most - others[0]) * beta_quantile(level, len(values) - len(others) + 1, len(others)))
    return float(np.quantile(_draws(values, most), level))


def _draws(values: Array, most: float) -> Array:
    """R means of the values and one more, `most`, with random weights."""
    levels, counts = np.unique(np.append(values, most), return_counts=True)
    weights = np.random.default_rng(0).standard_gamma(counts, size=(DRAWS, len(levels)))
    drawn: Array = weights @ levels / weights.sum(1)
    return drawn
