"""Intervals over seeds and then questions.

Letters: S seeds, Q questions, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dsrl.bounded_mean import CONFIDENCE, NORMAL, Array, Range, few_differ, mean_interval, mean_p

RESAMPLES = 10_000
"""R."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate with its interval, and the probability of one as far from the null if the null were true.

    Args:
        value: the estimate; a ratio is given as its logarithm.
        low: lower end of the 95% interval.
        high: upper end.
        error: half of the interval in standard errors of a normal distribution: with few seeds more than the
            estimate's own.
        p: two-sided, against the null value.
    """

    value: float
    low: float
    high: float
    error: float
    p: float


def over_seeds_and_questions(
    values: Array, null: float = 0.0, resamples: int = RESAMPLES, *, within: Range | None = None
) -> Interval:
    """Estimate the mean of values [S, Q], drawn with replacement first by seed and then by question.

    The questions are the same for all seeds, so that a resample has one draw of questions. Few seeds make a bootstrap
    too sure, which `_as_student` makes good. Of a single seed only the questions are drawn.

    Where values must lie `within` two ends, and all but fewer than ten questions lie at one of them, or at the null
    value, in their mean over seeds, the interval reaches at least as far as that of `mean_interval` over questions, and
    p is at least its own.
    """
    seeds, questions = _counts(values.shape, resamples)
    means = ((seeds @ values) * questions).sum(1) / values.size
    found = _interval(float(values.mean()), _as_student(means, values), null)
    of_questions = values.mean(0)
    if within is None or len(of_questions) < 2 or not few_differ(of_questions, (*within, null)):
        return found
    low, high = mean_interval(of_questions, within)
    return replace(
        found,
        low=min(found.low, low),
        high=max(found.high, high),
        error=max(found.error, (high - low) / (2 * NORMAL)),
        p=max(found.p, mean_p(of_questions, null, within)),
    )


def log_ratio(above: Sequence[Array], below: Sequence[Array], resamples: int = RESAMPLES) -> Interval:
    """Estimate the logarithm of a ratio of products of sums over values [S, Q], all drawn together by seed and then by
    question: `log_ratio([thoughts, tokens_of_base], [thoughts_of_base, tokens])` is one of thoughts a token.

    A sum that is 0 in a resample makes a ratio of 0 or of infinity there; 0 over 0 counts as 1.
    """
    seeds, questions = _counts(above[0].shape, resamples)

    def logs(values: Array) -> Array:
        found: Array = np.log(((seeds @ values) * questions).sum(1))
        return found

    with np.errstate(divide="ignore", invalid="ignore"):
        draws = np.sum([logs(values) for values in above], 0) - np.sum([logs(values) for values in below], 0)
        value = sum(float(np.log(v.sum())) for v in above) - sum(float(np.log(v.sum())) for v in below)
        slopes = sum(v / v.mean() for v in above) - sum(v / v.mean() for v in below)  # of the logarithm, by cell
    draws = np.nan_to_num(draws, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return _interval(value, _as_student(draws, slopes), 0.0)


def _counts(shape: tuple[int, ...], resamples: int) -> tuple[Array, Array]:
    """How often each seed [R, S] and each question [R, Q] is drawn."""
    generator = np.random.default_rng(0)
    found = []
    for size in shape:
        drawn = generator.multinomial(size, [1 / size] * size, size=resamples)
        found.append(drawn.astype(np.float64))
    return found[0], found[1]


def _as_student(draws: Array, values: Array) -> Array:
    """Spread draws as the mean of values [S, Q] varies, and as widely as few seeds ask for.

    A bootstrap over both counts too little of the variance between seeds, that within both twice, and takes all of it
    for known: its tails are normal ones. Here the draws keep their shape, their variance becomes that of a two-way
    layout of seeds and questions, and each is divided by the root of a chi-squared one over its degrees of freedom, as
    Student's t is made. The degrees are Satterthwaite's (1946), of the layout's variances together.
    """
    finite = draws[np.isfinite(draws)]
    center, spread = (float(finite.mean()), float(finite.std())) if len(finite) else (0.0, 0.0)
    variance, degrees = _of_the_mean(values)
    if not (spread > 0 and 0 < variance < math.inf):
        return draws
    chi_squared = np.random.default_rng(1).chisquare(degrees, len(draws))
    scaled: Array = (draws - center) / spread * math.sqrt(variance) / np.sqrt(chi_squared / degrees)
    return center + scaled


def _of_the_mean(values: Array) -> tuple[float, float]:
    """The variance of the mean of values [S, Q], and its degrees of freedom; 0 and 1 of a single value."""
    by_seed, by_question = values.mean(1), values.mean(0)
    rest = values - by_seed[:, None] - by_question + values.mean()
    seeds, questions = (max(1, size - 1) for size in values.shape)  # degrees of freedom; one alone does not vary
    of_seeds, of_questions = by_seed.var() / seeds, by_question.var() / questions
    within = rest.var() / (seeds * questions)  # in both
    variance = max(of_seeds, of_questions, of_seeds + of_questions - within)
    uncertain = of_seeds**2 / seeds + of_questions**2 / questions + within**2 / (seeds * questions)
    return float(variance), float(variance**2 / uncertain) if uncertain else 1.0


def _interval(value: float, draws: Array, null: float) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], method="inverted_cdf")
    beyond = min((draws <= null).mean(), (draws >= null).mean())
    return Interval(
        value=value,
        low=float(low),
        high=float(high),
        error=float(high - low) / (2 * NORMAL) if math.isfinite(low) and math.isfinite(high) else math.inf,
        p=float(min(1.0, 2 * max(beyond, 1 / len(draws)))),
    )
