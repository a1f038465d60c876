"""Trying parts on a small made-up batch before anything is loaded: what they return, and that a gradient arrives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dsrl.monitors import Monitor
from dsrl.monitors.monitor import ask
from dsrl.objectives import Objective
from dsrl.objectives.checked import choose, loss_of
from dsrl.phases.conditions import Condition
from dsrl.registry import build
from dsrl.registry.blame import PartError, blaming, is_foreign, label_of
from dsrl.registry.returned import expect
from dsrl.types import Counts, LossBatch

HISTORIES = ((), (0.5,), (0.1, 0.4, 0.3, 0.2, 0.2, 0.2))
"""Values of a metric that a condition is tried on."""
WIDTH = 3
"""Tokens of the longest made-up response."""


class AnyMetrics(dict[str, float]):
    """Metrics of an iteration in which every name has a value."""

    def __missing__(self, key: str) -> float:
        return 0.5


def try_objective(term: Objective, prompts: int, responses: int) -> None:
    """Compute advantages and losses of made-up responses, and look whether a gradient comes back.

    Raises DSRLError: something of it raised, or is not what it must be, or no kept token gets a gradient.
    """
    build("space", term.space)  # an objective builds its other parts itself
    arrived = [blaming(_gradient, term, rewards, owner=term) for rewards in _made_up_rewards(prompts, responses)]
    if term.coefficient and False in arrived and True not in arrived:
        parts = {kind: build(kind, getattr(term, kind)) for kind in ("surrogate", "aggregate") if hasattr(term, kind)}
        owners = [term, *(part for part in parts.values() if is_foreign(part))]
        raise PartError(
            f"{' with '.join(map(label_of, owners))}: no gradient of its loss reaches the log-probabilities of the "
            "tokens that it keeps, so that nothing would be learnt; it must be computed from `logprobs`, undetached"
        )


def try_condition(condition: Condition) -> None:
    """Ask a condition about made-up values of its metric. Raises DSRLError, in its name."""
    for history in HISTORIES:
        met = blaming(condition.met, history, owner=condition)
        expect(met, (bool, np.bool_), owner=condition, kind="condition", what="True or False of `met`")
        if met:
            said = blaming(condition.finding, history, owner=condition)
            expect(said, str, owner=condition, kind="condition", what="text of `finding`")


def try_monitor(monitor: Monitor) -> None:
    """Show a monitor made-up metrics. Raises DSRLError, in its name."""
    for history in ([], [AnyMetrics()] * 3):
        blaming(ask, monitor, AnyMetrics(), history, owner=monitor)


def _gradient(term: Objective, rewards: Tensor) -> bool | None:
    """Whether a gradient reaches kept tokens with an advantage; None where there are none of them."""
    advantages, kept, scored = choose(term, rewards)
    rows = rewards.numel()
    lengths = torch.arange(rows).remainder(WIDTH) + 1
    mask = (torch.arange(WIDTH) < lengths[:, None]) & kept.reshape(-1, 1)
    logprobs = -(torch.arange(rows * WIDTH).float().view(rows, WIDTH) % 5 + 1) / 4
    logprobs.requires_grad_()
    batch = LossBatch(
        old_logprobs=logprobs.detach() - 0.05,
        mask=mask & scored.reshape(-1, 1),
        advantages=advantages.reshape(-1),
        counts=Counts.of(mask),
        reference_logprobs=logprobs.detach() - 0.1,
    )
    loss = loss_of(term, logprobs, batch).loss
    if not loss.isfinite():
        raise PartError(f"{label_of(term, 'objective')} must return a finite loss, not {loss.item()}")
    found = torch.autograd.grad(loss, logprobs, allow_unused=True)[0] if loss.requires_grad else None
    if found is not None and not found[batch.mask].isfinite().all():
        raise PartError(f"{label_of(term, 'objective')}: the gradient of its loss is not finite")
    moved = batch.mask & (advantages.reshape(-1, 1) != 0)
    if not moved.any():
        return None
    return found is not None and bool(found[batch.mask].any())


def _made_up_rewards(prompts: int, responses: int) -> Iterator[Tensor]:
    """Rewards [B, G]: every second answer is right; the first of each group alone is."""
    yield torch.arange(prompts * responses).remainder(2).float().view(prompts, responses)
    first = torch.zeros(prompts, responses)
    first[:, 0] = 1.0
    yield first
