"""Which tokens of the kept responses count, where an objective's `token_weight` says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from dsrl.loop.experience import SpaceView, Term
from dsrl.objectives.token_weights import TokenWeight
from dsrl.parallel.collectives import gather, own_rank
from dsrl.registry.blame import call_part
from dsrl.registry.returned import expect_tensor
from dsrl.types import Metric, Metrics


def choose_tokens(part: TokenWeight, kept: Tensor, scores: Mapping[str, Tensor]) -> Tensor:
    """Choose tokens of kept responses, bool [N, T]. A collective where the part compares tokens.

    Args:
        part: the objective's `token_weight`.
        kept: [N, T] bool, the tokens of kept responses.
        scores: by space, log-probabilities, and entropies where they are needed, [N, T, 1 or 2].
    """
    own = {space: values[kept] for space, values in scores.items()}
    size = int(kept.sum())
    first, total = 0, size
    if part.compares:
        every = gather(own)
        sizes = [len(values[part.spaces[0]]) for values in every]
        first, total = sum(sizes[: own_rank()]), sum(sizes)
        own = {space: torch.cat([values[space] for values in every]) for space in own}
    logprobs = {space: values[:, 0] for space, values in own.items()}
    entropies = {space: values[:, 1] for space, values in own.items()} if part.needs_entropy else {}
    chosen = torch.zeros_like(kept)
    counted = call_part(part, "token_weight", part.counts, logprobs, entropies)
    expect_tensor(counted, (total,), owner=part, kind="token_weight", what="counts", letters="[M]")
    chosen[kept] = counted[first : first + size]
    return chosen


def choose_in_views(views: Iterable[SpaceView], score: Callable[[str, Tensor, int], Tensor]) -> set[int]:
    """Set the `counted` of views with a term whose objective chooses tokens, and return the indices of those terms.

    Args:
        views: of an experience.
        score: gives the scores [N, T, parts] of some rows [N] bool in a space, from (space, rows, parts): 1 part is
            log-probabilities, 2 are these and entropies.
    """
    choosing = [
        (view, term, part)
        for view in views
        for term in view.terms
        if (part := term.objective.chosen_tokens) is not None
    ]
    parts = [(term, part) for _, term, part in choosing]
    scores: dict[str, Tensor] = {}
    for space in dict.fromkeys(space for _, part in parts for space in part.spaces):
        entropy = any(part.needs_entropy and space in part.spaces for _, part in parts)
        scores[space] = score(space, rows_to_score(parts, space), 2 if entropy else 1)
    for view, term, part in choosing:
        kept = view.mask & term.kept[:, None]
        tokens = choose_tokens(part, kept, {space: scores[space] for space in part.spaces})
        if view.counted is None:
            view.counted = torch.full_like(view.tokens, -1)  # every bit: all tokens count for the other terms
        view.counted = view.counted & ~((~tokens).long() << term.index)
    return {term.index for term, _ in parts}


def rows_to_score(parts: Sequence[tuple[Term, TokenWeight]], space: str) -> Tensor:
    """Find the rows [N] bool whose tokens some part must see in a space: those that its term keeps."""
    return torch.stack([term.kept for term, part in parts if space in part.spaces]).any(0)


def token_metrics(term: Term, view: SpaceView) -> Metrics:
    """Measure `kept/tokens`: the share of the tokens of kept responses that count."""
    kept = view.mask & term.kept[:, None]
    return {f"{term.label}kept/tokens": Metric.mean(view.counted_for(term), kept)}
