"""The four claims of arXiv 2604.14142: the endpoint of each, its estimate, and what is shown beside it.

Each endpoint was written down in docs/claims.md before anything was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dsrl.bounded_mean import CHANGE, SHARE, Array, Range
from dsrl.evaluation.statistics import RARE
from dsrl.replication.bootstrap import Interval, log_ratio, over_seeds_and_questions
from dsrl.replication.measured import Curve
from dsrl.replication.verdicts import MARGIN
from dsrl.reports.intervals import share_interval

Curves = Mapping[str, Sequence[Curve]]
"""Curves of the measured runs by arm, one for each seed, in one order of seeds."""
COMPARED = ("grpo", "dsrl", "dsrl_carried", "grpo_entropy")
"""The arms of claim 3."""
HALF = 0.5
"""The share of pairs of directions that agree, if they have nothing to do with each other."""
GAINS = ("grpo", "nsr", "psr", "prerl", "nsr_prerl", "psr_prerl")
MOMENTS = ("base", "handoff", "end")
OF_BEST = 0.95
"""Of the best accuracy of grpo: the level that samples are counted to."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One number of a table: `digits` after the point; without an interval where the ends are None."""

    measure: str
    value: float | None
    low: float | None = None
    high: float | None = None
    digits: int = 3
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was measured of a claim in a world.

    Args:
        name: alignment, nsr_beats_psr, sample_efficiency or thoughts.
        claim: in the paper's sense, a sentence.
        endpoint: what is estimated, a sentence.
        estimate: of the endpoint; above `null` is what the claim says.
        null: what the endpoint would be if there were nothing in the claim.
        margin: what counts as no difference, if anything does.
        ratio: whether the estimate is the logarithm of a ratio.
        seeds: how many.
        rare: whether there were too few events to judge.
        beside: other numbers.
    """

    name: str
    claim: str
    endpoint: str
    estimate: Interval
    null: float = 0.0
    margin: float | None = None
    ratio: bool = False
    seeds: int
    rare: bool = False
    beside: Sequence[Shown] = field(default_factory=list)


def alignment(aligned: Mapping[str, Sequence[Mapping[str, Any]]]) -> Finding:
    """Claim 1: learning in P(y) and in P(y|x) go the same way.

    Args:
        aligned: the results of `dsrl.align` by moment (base, handoff, end), one for each seed.
    """
    moments = {moment: found for moment, found in aligned.items() if found}
    shares = np.array([[one["share_nonnegative"] for one in found] for found in moments.values()])  # [moments, S]
    counts = [one["samples"] for found in moments.values() for one in found]
    pooled = float(np.average(shares.reshape(-1), weights=counts))
    low, high = share_interval(pooled, sum(counts))
    error = math.sqrt(max(pooled * (1 - pooled), 1 / sum(counts)) / sum(counts))
    estimate = Interval(
        value=pooled,
        low=low,
        high=high,
        error=error,
        p=max(math.erfc(abs(pooled - HALF) / (error * math.sqrt(2))), 1e-12),
    )
    beside = []
    for moment, found in moments.items():
        beside.append(Shown(measure=f"share, {moment}", value=_mean(one["share_nonnegative"] for one in found)))
        for group in found[0]["by_group"]:
            share = _mean(one["by_group"][group]["share_nonnegative"] for one in found)
            beside.append(Shown(measure=f"share in {group} alone, {moment}", value=share))
        intervals = [one["cosine_interval"] for one in found if one["cosine_interval"]]  # none of a single prompt
        beside.append(
            Shown(
                measure=f"cosine of a response's two gradients, {moment}",
                value=_mean(one["cosine_mean"] for one in found),
                low=min((low for low, _ in intervals), default=None),
                high=max((high for _, high in intervals), default=None),
                note="from the lowest to the highest end of the seeds' intervals" if intervals else "",
            )
        )
        for objective in GAINS:
            values = [gain for one in found if (gain := one["gain"].get(objective)) is not None]
            if values:
                beside.append(Shown(measure=f"gain of {objective} on held-out prompts, {moment}", value=_mean(values)))
    return Finding(
        name="alignment",
        claim="The gradients of log P(y) and of log P(y|x) point the same way.",
        endpoint="Share of responses whose two gradients have an inner product of at least 0, at the base, at the "
        "handoff and at the end; one half, if they had nothing to do with each other.",
        estimate=estimate,
        null=HALF,
        seeds=len(next(iter(moments.values()))),
        beside=beside,
    )


def nsr_beats_psr(curves: Curves, iterations: int) -> Finding:
    """Claim 2: in P(y), suppressing wrong answers is better than raising right ones."""
    nsr, psr = (_stacked(curves[arm], iterations) for arm in ("nsr_prerl", "psr_prerl"))
    base = _stacked(curves["nsr_prerl"], 0)
    k = curves["nsr_prerl"][0].k
    beside = [_accuracy(f"avg@{k}, before", base)]
    for arm, values in (("nsr_prerl", nsr), ("psr_prerl", psr)):
        beside.append(_accuracy(f"avg@{k}, {arm} after {iterations} iterations", values))
        drops = [curve.first_drop() for curve in curves[arm]]
        beside.append(
            Shown(
                measure=f"iterations until {arm} is 0.05 below its best",
                value=_mean(drop for drop in drops if drop is not None) if any(drops) else None,
                digits=1,
                note=f"{sum(drop is None for drop in drops)} of {len(drops)} runs never were",
            )
        )
    return Finding(
        name="nsr_beats_psr",
        claim="In P(y), suppressing wrong answers (NSR) beats raising right ones (PSR).",
        endpoint=f"avg@{k} on held-out questions after {iterations} iterations, nsr_prerl less psr_prerl, each with "
        "its own best learning rate.",
        estimate=over_seeds_and_questions(nsr - psr, within=CHANGE),
        margin=MARGIN,
        seeds=len(nsr),
        beside=beside,
    )


def sample_efficiency(curves: Curves) -> Finding:
    """Claim 3: DSRL reaches more than GRPO with the same samples."""
    k, last = curves["grpo"][0].k, curves["grpo"][0].done[-1]
    areas = {arm: np.stack([curve.area for curve in curves[arm]]) for arm in COMPARED}
    grpo = areas["grpo"]
    level = OF_BEST * float(np.max(np.mean([curve.accuracy.mean(1) for curve in curves["grpo"]], axis=0)))
    beside = []
    for arm, area in areas.items():
        beside.append(_accuracy(f"area under the curve, {arm}", area))
        beside.append(_accuracy(f"avg@{k} at the end, {arm}", _stacked(curves[arm], last)))
        beside.append(_samples_to(arm, curves[arm], level))
    for arm in COMPARED[1:]:
        beside.append(_accuracy(f"area, {arm} less grpo", areas[arm] - grpo, CHANGE))
        ends = _stacked(curves[arm], last) - _stacked(curves["grpo"], last)
        beside.append(_accuracy(f"avg@{k} at the end, {arm} less grpo", ends, CHANGE))
    needed = {arm: [curve.samples_to(level) for curve in curves[arm]] for arm in ("grpo", "dsrl")}
    if all(value for values in needed.values() for value in values):
        grpos, dsrls = (np.array(needed[arm], dtype=np.float64)[:, None] for arm in ("grpo", "dsrl"))
        ratio = log_ratio([grpos], [dsrls])
        beside.append(
            Shown(
                measure="samples of grpo over samples of dsrl, to that level",
                value=math.exp(ratio.value),
                low=None if ratio.low == ratio.high else math.exp(ratio.low),
                high=None if ratio.low == ratio.high else math.exp(ratio.high),
                digits=2,
                note="the paper: 1.6 to 2.5",
            )
        )
    return Finding(
        name="sample_efficiency",
        claim="DSRL beats GRPO, and needs fewer samples.",
        endpoint=f"Area under the curve of avg@{k} over samples, the warm-up's counted, dsrl less grpo, each with its "
        "own best learning rate.",
        estimate=over_seeds_and_questions(areas["dsrl"] - grpo, within=CHANGE),
        margin=MARGIN,
        seeds=len(grpo),
        beside=beside,
    )


def thoughts(curves: Curves, kind: str = "reflection") -> Finding:
    """Claim 4: nsr_prerl multiplies thoughts of transition and reflection."""
    dsrl, grpo = curves["dsrl"], curves["grpo"]
    starts = [curve.phases[0] for curve in dsrl]
    after, before = (
        np.stack([curve.thoughts[kind][curve.at(done)] for curve, done in zip(dsrl, dones, strict=True)])
        for dones in (starts, [0] * len(dsrl))
    )
    beside = []
    for other in dsrl[0].thoughts:
        for label, own, dones, against, at in (
            ("at the handoff, over the base", dsrl, starts, dsrl, [0] * len(dsrl)),
            ("dsrl at the end, over the base", dsrl, _ends(dsrl), dsrl, [0] * len(dsrl)),
            ("grpo at the end, over the base", grpo, _ends(grpo), grpo, [0] * len(grpo)),
            ("dsrl over grpo, at the end", dsrl, _ends(dsrl), grpo, _ends(grpo)),
        ):
            counts = _at(own, other, dones), _at(against, other, at)
            tokens = _at(own, None, dones), _at(against, None, at)
            beside.append(_ratio(f"{other} an answer, {label}", [counts[0]], [counts[1]]))
            beside.append(_ratio(f"{other} a token, {label}", [counts[0], tokens[1]], [counts[1], tokens[0]]))
    rare = min(after.sum(), before.sum()) < RARE
    return Finding(
        name="thoughts",
        claim="Suppressing wrong answers in P(y) multiplies reflection (the paper: 6.54 times, transition 14.89).",
        endpoint=f"Thoughts of {kind} an answer at the handoff, over those of the base on the same questions.",
        estimate=log_ratio([after], [before]),
        ratio=True,
        seeds=len(dsrl),
        rare=bool(rare),
        beside=beside,
    )


def _stacked(curves: Sequence[Curve], done: int) -> Array:
    """Accuracies [S, Q] after that many iterations."""
    return np.stack([curve.accuracy[curve.at(done)] for curve in curves])


def _ends(curves: Sequence[Curve]) -> list[int]:
    return [curve.done[-1] for curve in curves]


def _at(curves: Sequence[Curve], kind: str | None, dones: Sequence[int]) -> Array:
    """Thoughts of a class, or tokens, [S, Q] after some iterations of each run."""
    return np.stack(
        [
            (curve.tokens if kind is None else curve.thoughts[kind])[curve.at(done)]
            for curve, done in zip(curves, dones, strict=True)
        ]
    )


def _accuracy(measure: str, values: Array, within: Range = SHARE) -> Shown:
    found = over_seeds_and_questions(values, within=within)
    return Shown(measure=measure, value=found.value, low=found.low, high=found.high)


def _ratio(measure: str, above: list[Array], below: list[Array]) -> Shown:
    """A ratio with its interval; none where either count of thoughts is too small."""
    if min(above[0].sum(), below[0].sum()) < RARE:
        return Shown(measure=measure, value=None, note="too rare")
    found = log_ratio(above, below)
    return Shown(
        measure=measure,
        value=math.exp(found.value),
        low=math.exp(found.low),
        high=math.exp(found.high),
        digits=2,
    )


def _samples_to(arm: str, curves: Sequence[Curve], level: float) -> Shown:
    """The mean number of samples to a level; runs that never reach it are left out, and counted."""
    needed = [curve.samples_to(level) for curve in curves]
    reached = [value for value in needed if value is not None]
    missed = len(needed) - len(reached)
    found = over_seeds_and_questions(np.array(reached)[:, None]) if reached else None
    return Shown(
        measure=f"samples to avg@{curves[0].k} {level:.3f}, {arm}",
        value=None if found is None else found.value,
        low=None if found is None or found.low == found.high else found.low,
        high=None if found is None or found.low == found.high else found.high,
        digits=0,
        note=f"{missed} of {len(needed)} runs never reach it" if missed else "",
    )


def _mean(values: Any) -> float:
    found = list(values)
    return float(sum(found) / len(found))
