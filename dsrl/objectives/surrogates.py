"""The policy-gradient term.

(logprobs [N, T], old_logprobs [N, T], advantages [N], mask [N, T]) to the loss of each token [N, T] and whether
clipping holds that token's gradient, bool [N, T]. A surrogate is proportional to the advantage: where that is 0, so is
the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsrl.errors import ConfigError
from dsrl.registry import register

MAX_LOG_RATIO = 80.0  # exp overflows float32 at 89, and 0 * inf would make a clipped token's gradient NaN


@register("surrogate", "ppo_clip")
def ppo_clip(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = 10.0,
) -> tuple[Tensor, Tensor]:
    """-min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) with rho = exp(logp - old) (arXiv 1707.06347, equation 7).

    `dual_clip` c > 1 bounds the loss of negative advantages by c |A| (arXiv 1912.09729, equation 5); None omits it.
    """
    _check_clip(clip_low, clip_high)
    if dual_clip is not None and dual_clip <= 1:
        raise ConfigError(f"surrogate ppo_clip: dual_clip must be above 1 or null, not {dual_clip}")
    advantage = advantages[:, None]
    ratio = (logprobs - old_logprobs).clamp(max=MAX_LOG_RATIO).exp()
    unbounded, bounded = -advantage * ratio, -advantage * ratio.clamp(1 - clip_low, 1 + clip_high)
    loss, clipped = torch.maximum(unbounded, bounded), bounded > unbounded
    if dual_clip is not None:
        bound = -advantage * dual_clip
        too_far = (advantage < 0) & (loss > bound)
        loss, clipped = torch.where(too_far, bound, loss), clipped | too_far
    return loss, clipped


@register("surrogate", "reinforce")
def reinforce(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """-A log p, without a ratio: unbiased for the first optimizer step on a batch of rollouts (Williams 1992)."""
    return -advantages[:, None] * logprobs, torch.zeros_like(mask, dtype=torch.bool)


@register("surrogate", "gspo")
def gspo(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> tuple[Tensor, Tensor]:
    """ppo_clip with one ratio a sequence, exp(mean over its tokens of logp - old) (GSPO, arXiv 2507.18071, equation 5).

    Each token carries its sequence's loss, so that `seq_mean_token_mean` gives the paper's mean over sequences.
    """
    log_ratio = (logprobs - old_logprobs).masked_fill(mask == 0, 0.0)
    sequence = log_ratio.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return ppo_clip(
        sequence.expand_as(logprobs),
        torch.zeros_like(logprobs),
        advantages,
        mask,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=None,
    )


@register("surrogate", "cispo")
def cispo(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 1.0,
    clip_high: float = 4.0,
) -> tuple[Tensor, Tensor]:
    """-stop_gradient(clip(rho, 1 - clip_low, 1 + clip_high)) A log p (CISPO, arXiv 2506.13585, equation 4).

    Clipping bounds a token's weight and never takes its gradient away. The default has no lower bound.
    """
    _check_clip(clip_low, clip_high)
    ratio = (logprobs - old_logprobs).exp().detach()
    weight = ratio.clamp(1 - clip_low, 1 + clip_high)
    advantage = advantages[:, None]
    return -weight * advantage * logprobs, (weight != ratio) & (advantage != 0)


def _check_clip(low: float, high: float) -> None:
    if not (0 <= low <= 1 and high >= 0):
        raise ConfigError(f"clip_low must be in [0, 1] and clip_high at least 0, not {low} and {high}")
