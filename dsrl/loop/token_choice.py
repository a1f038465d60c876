"""Which tokens of the kept responses count, where an objective's `token_weight` says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dsrl.loop.experience import SpaceView, Term
from dsrl.objectives.token_weights import TokenWeight
from dsrl.parallel.collectives import gather, own_rank
from dsrl.types import Metric, Metrics


def choose_tokens(part: TokenWeight, kept: Tensor, scores: Mapping[str, Tensor]) -> Tensor:
    """Choose tokens of kept responses, bool [N, T]. A collective where the part compares tokens.

    Args:
        part: the objective's `token_weight`.
        kept: [N, T] bool, the tokens of kept responses.
        scores: by space, log-probabilities, and entropies where they are needed, [N, T, 1 or 2].
    """
    own = {space: values[kept] for space, values in scores.items()}
    first, size = 0, int(kept.sum())
    if part.compares:
        every = gather(own)
        first = sum(len(values[part.spaces[0]]) for values in every[: own_rank()])
        own = {space: torch.cat([values[space] for values in every]) for space in own}
    logprobs = {space: values[:, 0] for space, values in own.items()}
    entropies = {space: values[:, 1] for space, values in own.items()} if part.needs_entropy else {}
    chosen = torch.zeros_like(kept)
    chosen[kept] = part.counts(logprobs, entropies)[first : first + size]
    return chosen


def rows_to_score(parts: Sequence[tuple[Term, TokenWeight]], space: str) -> Tensor:
    """Find the rows [N] bool whose tokens some part must see in a space: those that its term keeps."""
    return torch.stack([term.kept for term, part in parts if space in part.spaces]).any(0)


def token_metrics(term: Term, view: SpaceView) -> Metrics:
    """Measure `kept/tokens`: the share of the tokens of kept responses that count."""
    kept = view.mask & term.kept[:, None]
    return {f"{term.label}kept/tokens": Metric.mean(view.counted_for(term), kept)}
