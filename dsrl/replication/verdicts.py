"""What follows from an estimate: reproduced, contradicted, equivalent or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dsrl.replication.bootstrap import Interval

REPRODUCED, CONTRADICTED, EQUIVALENT, UNDECIDED = "reproduced", "contradicted", "equivalent", "undecided"

LEVEL = 0.05
"""Of Holm's test over the claims."""
MARGIN = 0.02
"""Accuracies that differ by less are equivalent."""
NINETY = 1.645
TO_DETECT = 2.50 + 0.84
"""Standard errors that an effect must have, to be found four times in five where Holm's correction over four claims is
strictest, at 0.05 / 4."""
MANY = 10_000
"""Seeds beyond which it is not said how many would decide."""


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values for as many tests as there are (Holm 1979): each is at most `LEVEL` where the test rejects."""
    found: dict[str, float] = {}
    largest = 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - place)))
        found[name] = largest
    return {name: found[name] for name in p_values}


def verdict(estimate: Interval, adjusted_p: float, *, null: float = 0.0, margin: float | None = None) -> str:
    """Judge a claim that an estimate is above the null value.

    Args:
        estimate: with its unadjusted interval.
        adjusted_p: by `holm`.
        null: the estimate if there were nothing in the claim.
        margin: what counts as no difference; None where there is no such thing. Equivalent is an estimate whose 90%
            interval lies within it (two one-sided tests).
    """
    if adjusted_p <= LEVEL:
        return REPRODUCED if estimate.value > null else CONTRADICTED
    if margin is not None and abs(estimate.value - null) + NINETY * estimate.error < margin:
        return EQUIVALENT
    return UNDECIDED


def seeds_to_decide(estimate: Interval, seeds: int, *, margin: float | None = None) -> int | None:
    """Say how many seeds would decide, if the estimate is right and all of its error comes from seeds; None: unknown,
    or more than anybody runs.

    That is an upper bound as far as the error is the questions'. An effect is found with a power of 80%; one that is
    smaller than the margin is shown to be so.
    """
    effect, error = abs(estimate.value), estimate.error
    if not (math.isfinite(effect) and math.isfinite(error)):
        return None
    shares = [TO_DETECT * error / effect] if effect > error / MANY else []
    if margin is not None and effect < margin:
        shares.append(NINETY * error / (margin - effect))
    needed = max(seeds + 1, math.ceil(seeds * min(shares) ** 2)) if shares else MANY
    return needed if needed < MANY else None
