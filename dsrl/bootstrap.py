"""Means over questions, with confidence intervals by bootstrap.

Letters: Q questions, M metrics, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 2000
"""Resamples of the bootstrap."""

CONFIDENCE = 0.95
"""Of the intervals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean over questions, or a ratio of two, with its standard error and its confidence interval by bootstrap over
    questions.

    The error and the interval of a single question are NaN.
    """

    value: float
    stderr: float
    low: float
    high: float


def estimates(values: Mapping[str, Sequence[float]], *, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Average each of M metrics over the questions that have it; `values` holds a number for each of these."""
    found: dict[str, Estimate] = {}
    for count in {len(own) for own in values.values()}:
        names = [name for name, own in values.items() if len(own) == count]
        table = np.array([values[name] for name in names], dtype=np.float64).T
        means = resampled_means(table, resamples) if count > 1 else np.full((1, len(names)), np.nan)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(means, [tail, 1 - tail], axis=0)
        columns = zip(names, table.mean(0), means.std(0), low, high, strict=True)
        found |= {
            name: Estimate(value=float(value), stderr=float(error), low=float(least), high=float(most))
            for name, value, error, least, most in columns
        }
    return {name: found[name] for name in values}


def ratio_estimates(
    values: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Estimate ratios of sums over questions, each with its interval.

    Args:
        values: by name, numerator and denominator of each of Q questions, the same Q in all.
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
    tail, found = (1 - CONFIDENCE) / 2, {}
    for index, (name, (above, below)) in enumerate(known.items()):
        several = np.count_nonzero(below) > 1
        there = (means[:, 2 * index + 1] != 0) if several else slice(0)
        drawn = means[there, 2 * index] / means[there, 2 * index + 1]
        low, high = np.quantile(drawn, [tail, 1 - tail]) if several else (np.nan, np.nan)
        error = float(drawn.std()) if several else np.nan
        found[name] = Estimate(value=sum(above) / sum(below), stderr=error, low=float(low), high=float(high))
    return found


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
