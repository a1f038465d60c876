"""Which tokens an update moves: how the loss pulls on the log-probability of each token of logged responses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from dsrl.loop.logged import TokenPull
from dsrl.loop.loss import term_slopes
from dsrl.loop.micro_batches import MicroBatch
from dsrl.objectives import KLPenalty
from dsrl.types import Counts


def pulls_of(
    micro_batch: MicroBatch, logprobs: Tensor, counts: list[Counts], *, rows: Sequence[int], length: int
) -> list[TokenPull]:
    """Find how the loss of a micro-batch pulls on those of its responses that are logged.

    The loss is computed again for these alone, from log-probabilities that are there: no pass of the model, and nothing
    that the update uses.

    Args:
        micro_batch: responses in one space.
        logprobs: [n, T] of these responses.
        counts: a term's denominators each, of the whole optimizer step.
        rows: numbers of the logged responses on rank 0.
        length: first tokens of each that are logged.
    """
    homes = chain.from_iterable(((rank, row) for row in numbers) for rank, numbers in micro_batch.home)
    places = {place: row for place, (rank, row) in enumerate(homes) if rank == 0 and row in rows}
    if not places:
        return []
    view = micro_batch.view.select(list(places))
    scored = logprobs.detach()[list(places), : view.mask.shape[1]].cpu().requires_grad_()
    pull, clipped = torch.zeros_like(scored), torch.zeros_like(scored, dtype=torch.bool)
    for term, slope in term_slopes(view, scored, counts):
        pull -= term.weight * slope
        if not isinstance(term.objective, KLPenalty):
            clipped |= (slope == 0) & view.counted_for(term) & (term.scored & (term.advantages != 0))[:, None]
    pull *= max(count.tokens for count in counts)
    lengths = view.lengths.clamp(max=length).tolist()
    return [
        TokenPull(space=view.space, row=row, pull=pull[place, :size].detach(), clipped=clipped[place, :size])
        for place, (row, size) in enumerate(zip(places.values(), lengths, strict=True))
    ]
