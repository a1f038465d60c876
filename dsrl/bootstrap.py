"""Means over questions, with confidence intervals by bootstrap; exact ones where too few questions differ for it.

Letters: Q questions, M metrics, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dsrl.bounded_mean import CONFIDENCE, NORMAL, Array, Bounds, Range, few_differ, mean_interval, ratio_interval

RESAMPLES = 2000
"""Resamples of the bootstrap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean over questions, or a ratio of two, with its standard error and its confidence interval.

    The error and the interval are NaN where nothing tells them: of a single question, and of questions that all agree
    on a number that might be any.
    """

    value: float
    stderr: float
    low: float
    high: float


def estimates(
    values: Mapping[str, Sequence[float]], *, within: Mapping[str, Range] | None = None, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Average each of M metrics over the questions that have it.

    Args:
        values: by name, a number for each of these questions.
        within: by name, between which ends a number must lie. Where fewer than ten questions differ from the most
            common number, such a metric has the interval of `mean_interval`, since a bootstrap would be too sure.
        resamples: R.
    """
    found: dict[str, Estimate] = {}
    for count in {len(own) for own in values.values()}:
        names = [name for name, own in values.items() if len(own) == count]
        table = np.array([values[name] for name in names], dtype=np.float64).T
        means = resampled_means(table, resamples) if count > 1 else np.full((1, len(names)), np.nan)
        for place, name in enumerate(names):
            column, ends = table[:, place], (within or {}).get(name)
            known = count > 1 and ends is not None and few_differ(column)
            exact = mean_interval(column, ends) if known and ends is not None else None
            found[name] = _estimate(float(column.mean()), means[:, place], exact)
    return {name: found[name] for name in values}


def ratio_estimates(
    values: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    shares: Collection[str] = (),
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Estimate ratios of sums over questions, each with its interval.

    Args:
        values: by name, numerator and denominator of each of Q questions, the same Q in all.
        shares: names of ratios that lie between 0 and 1 in every question. Where fewer than ten questions differ from
            the most common one, these have the interval of `ratio_interval`, since a bootstrap would be too sure.
        resamples: R.

    Returns:
        The ratios by name, without those whose denominators add up to 0. Of resamples in which they do, none counts.
        Error and interval are NaN where fewer than two questions have a denominator other than 0.
    """
    known = {name: pair for name, pair in values.items() if sum(pair[1])}
    if not known:
        return {}
    table = np.array([column for pair in known.values() for column in pair], dtype=np.float64).T
    means = resampled_means(table, resamples) if len(table) > 1 else np.full((1, table.shape[1]), np.nan)
    found = {}
    for index, name in enumerate(known):
        held = table[:, 2 * index + 1] != 0
        above, below = table[held, 2 * index], table[held, 2 * index + 1]
        several = len(below) > 1
        there = means[:, 2 * index + 1] != 0
        drawn = means[there, 2 * index] / means[there, 2 * index + 1] if several else np.full(1, np.nan)
        exact = ratio_interval(above, below) if several and name in shares and few_differ(above / below) else None
        found[name] = _estimate(float(above.sum() / below.sum()), drawn, exact)
    return found


def _estimate(value: float, drawn: Array, exact: Bounds | None) -> Estimate:
    """An estimate by what was drawn, [R]; or with an exact interval, whose width says the least standard error."""
    tail, error = (1 - CONFIDENCE) / 2, float(drawn.std())
    if exact is not None:
        return Estimate(value=value, stderr=max(error, (exact.high - exact.low) / (2 * NORMAL)), **exact._asdict())
    if len(drawn) > 1 and np.ptp(drawn) <= 1e-12 * abs(value):  # all agree, which says nothing of others
        return Estimate(value=value, stderr=math.nan, low=math.nan, high=math.nan)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value=value, stderr=error, low=float(low), high=float(high))


def resampled_means(table: Array, resamples: int, seed: int = 0) -> Array:
    """Draw Q questions with replacement, R times, and average their metrics each time: the percentile bootstrap.

    A question comes with all of its samples, so the spread within it counts, too.

    Args:
        table: [Q, M].
        resamples: R.
        seed: of the random numbers.

    Returns:
        The means [R, M].
    """
    generator = np.random.default_rng(seed)
    questions = len(table)
    means = np.empty((resamples, table.shape[1]))
    for index in range(resamples):
        means[index] = table[generator.integers(questions, size=questions)].mean(0)
    return means
