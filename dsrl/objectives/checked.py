"""The border to objectives: what one returned is checked, and told in its name, wherever the loop asks one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from dsrl.objectives.objective import Objective
from dsrl.registry.blame import PartError, call_part, label_of
from dsrl.registry.returned import expect, expect_tensor
from dsrl.types import LossBatch, LossOutput

TAKEN = ("loss", "grad_norm", "lr", "phase", "step", "iteration", "iterations_done", "objective", "handoff_reason")
"""Names that metrics of the loop have."""
TAKEN_FAMILIES = (
    *("reward", "group", "response", "prompt", "tokens", "kept", "update", "time", "throughput", "memory", "val"),
    *("mismatch", "thoughts", "conditional", "marginal", "dynamic_sampling", "warnings", "probe"),
)
"""What such names may begin with, before a `/`."""


class Choice(NamedTuple):
    """What an objective makes of rewards [B, G]: advantages, what it keeps, and what of it the model must score."""

    advantages: Tensor
    kept: Tensor
    scored: Tensor


def choose(objective: Objective, rewards: Tensor) -> Choice:
    """Ask an objective for advantages of rewards [B, G], and for what it keeps and scores.

    A response without a reward, which is NaN, has advantage 0 and is neither kept nor scored, whatever is said of it.
    Raises PartError.
    """
    missing = rewards.isnan()
    advantages = _checked(objective, objective.advantages, "advantages", rewards).masked_fill(missing, 0.0)
    if not advantages.isfinite().all():
        hint = "; rewards are NaN where a verifier does not apply: leave these out of means, as Tensor.nanmean does"
        raise PartError(
            f"{label_of(objective, 'objective')} must return finite advantages, not "
            f"{advantages[~advantages.isfinite()][0].item()}{hint if missing.any() else ''}"
        )
    kept = _checked(objective, objective.kept, "kept", rewards, advantages) & ~missing
    scored = _checked(objective, objective.scored, "scored", kept, advantages) & ~missing
    return Choice(advantages, kept, scored)


def loss_of(objective: Objective, logprobs: Tensor, batch: LossBatch) -> LossOutput:
    """Ask an objective for its loss of log-probabilities [N, T]. Raises PartError."""
    output: LossOutput = _asked(objective, objective.loss, logprobs, batch)
    expect(output, LossOutput, owner=objective, kind="objective", what="a LossOutput of its loss")
    expect_tensor(output.loss, (), owner=objective, kind="objective", what="loss", letters="scalar")
    if taken := [name for name in output.metrics if is_taken(name)]:
        raise PartError(
            f"{label_of(objective, 'objective')}: a metric cannot be called '{taken[0]}', which is one of the loop's "
            f"own; call it {type(objective).__name__.lower()}/{taken[0].rpartition('/')[2]}, say"
        )
    return output


def is_taken(name: str) -> bool:
    """Whether a name is that of a metric of the loop, or like one."""
    return name in TAKEN or name.partition("/")[0] in TAKEN_FAMILIES


def _asked(objective: Objective, method: Callable[..., Any], *arguments: Any) -> Any:
    return call_part(objective, "objective", method, *arguments)


def _checked(objective: Objective, method: Callable[..., Any], what: str, *arguments: Tensor) -> Tensor:
    found, shape = _asked(objective, method, *arguments), tuple(arguments[0].shape)
    return expect_tensor(found, shape, owner=objective, kind="objective", what=what, letters="[B, G]")
