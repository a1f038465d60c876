"""How tokens become a scalar: (losses [N, T], mask [N, T], counts) to this micro-batch's share of the mean.

The denominators are the counts of the whole optimizer step over all ranks, so shares add up to the same mean however
the batch is cut. Sequences without a token in the mask add nothing and are not counted.
"""

from __future__ import annotations

from torch import Tensor

from dsrl.registry import register
from dsrl.types import Counts


@register("aggregate", "token_mean")
def token_mean(losses: Tensor, mask: Tensor, counts: Counts) -> Tensor:
    """Mean over all kept tokens: long responses weigh more (DAPO, arXiv 2503.14476, equation 8)."""
    return _masked(losses, mask).sum() / max(counts.tokens, 1)


@register("aggregate", "seq_mean_token_mean")
def seq_mean_token_mean(losses: Tensor, mask: Tensor, counts: Counts) -> Tensor:
    """Mean over sequences of the mean over their tokens (GRPO, arXiv 2402.03300, equation 3)."""
    means = _masked(losses, mask).sum(-1) / mask.sum(-1).clamp(min=1)
    return means.sum() / max(counts.sequences, 1)


@register("aggregate", "seq_mean_token_sum")
def seq_mean_token_sum(losses: Tensor, mask: Tensor, counts: Counts) -> Tensor:
    """Mean over sequences of the sum over their tokens: the gradient of log P(sequence)."""
    return _masked(losses, mask).sum() / max(counts.sequences, 1)


@register("aggregate", "constant")
def constant(losses: Tensor, mask: Tensor, counts: Counts) -> Tensor:
    """Sum over tokens over (kept samples x max_new_tokens): no length bias (Dr. GRPO, arXiv 2503.20783, sec. 3.1)."""
    return _masked(losses, mask).sum() / max(counts.samples * counts.max_new_tokens, 1)


def _masked(losses: Tensor, mask: Tensor) -> Tensor:
    """Losses with 0 where the mask is false, whatever stood there."""
    return losses.masked_fill(mask == 0, 0.0)
