"""Weights in a narrow type lose small updates: how many of them a step of the learning rate changes at all."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dsrl.parallel.collectives import all_sum, own_rank
from dsrl.phases.phase import Phase

logger = logging.getLogger(__name__)

NARROW = (torch.bfloat16, torch.float16)
ENOUGH = 0.9
"""The share of weights that a step changes, from which nothing is said."""


@torch.no_grad()
def share_changed(parameters: Iterable[nn.Parameter], step: float) -> float:
    """Compute the share of weights that a step up or down by `step` changes, once the result is rounded to their type.

    A weight w in bfloat16 has neighbours at 2^-8 to 2^-7 of its size, and moves where the step is more than half of the
    way to one. A collective: every rank counts its part. 1 without any weights.
    """
    changed = total = 0
    for parameter in parameters:
        for part in torch.split(_local(parameter).flatten(), 2**24):
            wide = part.float()
            changed += sum(int(((wide + way * step).to(part.dtype) != part).sum()) for way in (1, -1))
            total += 2 * part.numel()
    changed_by_all, total_of_all = all_sum([changed, total])
    return changed_by_all / total_of_all if total_of_all else 1.0


def warn_of_lost_updates(parameters: Iterable[nn.Parameter], phases: Sequence[Phase]) -> None:
    """Say how many of the trained weights the learning rate of each phase changes, where these are in a narrow type and
    it is not nearly all. A collective.

    The first step of AdamW moves every weight by the learning rate, and later ones by less as a rule.
    """
    narrow = [parameter for parameter in parameters if parameter.requires_grad and parameter.dtype in NARROW]
    if not all_sum([sum(_local(parameter).numel() for parameter in narrow)])[0]:
        return
    told = []
    for phase in phases:
        key, share = "optimizer.lr" if phase.number == 1 else f"phase{phase.number}.lr", share_changed(narrow, phase.lr)
        if share < ENOUGH:
            told.append(f"{key}={phase.lr:g} changes {share:.2%} of them")
    if told and own_rank() == 0:
        dtype = str(narrow[0].dtype).removeprefix("torch.") if narrow else "a narrow type"
        logger.warning(
            "trained weights are in %s, and a step of AdamW with %s: the others are rounded back to what they were; "
            "model.dtype=float32 trainer.precision=bf16-mixed keeps them in float32 and computes in bfloat16",
            dtype,
            ", with ".join(told),
        )


def _local(parameter: nn.Parameter) -> Tensor:
    """This rank's part of a parameter."""
    from torch.distributed.tensor import DTensor

    return parameter.to_local() if isinstance(parameter, DTensor) else parameter
