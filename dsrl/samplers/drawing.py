"""Draw tokens from logits, each by one uniform number."""

from __future__ import annotations

import torch
from torch import Tensor

from dsrl.types import SamplingParams


def draw_tokens(logits: Tensor, uniform: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverse transform of a uniform number.

    Args:
        logits: [N, V].
        uniform: [N], in [0, 1).
        params: temperature (0: the likeliest token), top-k and top-p.

    Returns:
        Token ids [N] and log P(token) [N], of the logits over the temperature (over 1 when greedy), without the
        restriction to top-k and top-p.
    """
    logits = logits.float()
    if params.temperature == 0:
        token = logits.argmax(-1)
    else:
        logits = logits if params.temperature == 1 else logits / params.temperature
        weights = _accumulated(_restricted(logits, params).softmax(-1))
        target = uniform[:, None].to(weights.dtype) * weights[:, -1:]
        token = torch.searchsorted(weights, target, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return token, logits.gather(-1, token[:, None])[:, 0] - logits.logsumexp(-1)


def _restricted(logits: Tensor, params: SamplingParams) -> Tensor:
    """Set logits [N, V] to -inf outside of the k likeliest tokens and of the smallest set that reaches top_p."""
    if params.top_k > 0:
        smallest = logits.topk(min(params.top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, float("-inf"))
    if params.top_p < 1:
        ordered, order = logits.sort(descending=True)
        before = _accumulated(ordered.softmax(-1)) - ordered.softmax(-1)
        outside = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= params.top_p)
        logits = logits.masked_fill(outside, float("-inf"))
    return logits


def _accumulated(probabilities: Tensor) -> Tensor:
    """Add up probabilities [N, V] along the last dimension.

    CUDA adds floating-point numbers in an order that varies, and refuses to where `trainer.deterministic` is set. Whole
    numbers have one sum: there 2**-40 is the unit, finer than the rounding of float32.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return probabilities.cumsum(-1)
    return (probabilities.double() * 2.0**40).long().cumsum(-1).to(torch.float64).mul(2.0**-40).to(probabilities.dtype)
