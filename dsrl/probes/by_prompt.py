"""Sums and counts of each prompt, the form in which a probe's measurements are averaged and resampled."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from dsrl.bootstrap import Estimate, ratio_estimates
from dsrl.parallel.collectives import gather_rows
from dsrl.types import Metric, Metrics, Rollouts

SHARES = re.compile(r"known|sample/nonnegative")
"""How the names begin of measurements that count what is so."""

Sums = dict[str, Tensor]
"""By the name of a measurement: its sum and its count for each of B prompts, [B, 2] float64."""


def sums_of(values: Tensor, chosen: Tensor, groups: int) -> Tensor:
    """Add up the values of each prompt, where `chosen` is true.

    Args:
        values: [N] of responses, or [N, T] of their tokens.
        chosen: bool, of the same shape.
        groups: B.

    Returns:
        [B, 2]: sums, counts.
    """
    exact = values.double().masked_fill(~chosen, 0.0)
    return torch.stack([exact.reshape(groups, -1).sum(-1), chosen.double().reshape(groups, -1).sum(-1)], dim=-1)


def everywhere(sums: Mapping[str, Tensor], rollouts: Rollouts) -> Sums:
    """Collect the sums of all ranks, in the order of their prompts. A collective; every rank has the same names."""
    names, positions = sorted(sums), [prompt.position for prompt in rollouts.prompts]
    table = torch.stack([sums[name] for name in names], dim=1) if names else torch.zeros(len(positions), 0, 2)
    rows, _ = gather_rows(table.double(), positions)
    return {name: rows[:, place] for place, name in enumerate(names)}


def estimated(sums: Mapping[str, Tensor]) -> dict[str, Estimate]:
    """Average over all prompts, with 95% intervals by bootstrap over prompts; of shares, exact where few differ."""
    values = {name: (own[:, 0].tolist(), own[:, 1].tolist()) for name, own in sums.items()}
    return ratio_estimates(values, shares=[name for name in values if SHARES.match(name)])


def metrics_of(found: Mapping[str, Estimate], bounded: re.Pattern[str]) -> Metrics:
    """Make metrics of estimates that are the same on every rank.

    Of names that are `bounded`, NAME/low and NAME/high are the interval.
    """
    metrics: Metrics = {}
    for name, estimate in found.items():
        metrics[name] = Metric(estimate.value)
        if bounded.fullmatch(name) and not math.isnan(estimate.low):
            metrics |= {f"{name}/low": Metric(estimate.low), f"{name}/high": Metric(estimate.high)}
    return metrics
