"""What a reward is worth: rewards [B, G] of all ranks to advantages [B, G].

A group is the G responses of one prompt. Functions that compare within a group need G >= 2 and say so.

A reward of NaN is none: means, deviations and numbers of responses are over the others, as if the response had not been
drawn, and its own advantage is of no account (the loop leaves the response out of the update). One response alone has
the advantage 0.
"""

from __future__ import annotations

from torch import Tensor

from dsrl.errors import ConfigError
from dsrl.registry import register

EPSILON = 1e-6


@register("advantage", "group_center")
def group_center(rewards: Tensor) -> Tensor:
    """r - mean of its group (Dr. GRPO, arXiv 2503.20783; phase 1 of arXiv 2604.14142). A group of equals gives 0."""
    _need_group("group_center", rewards)
    return _center(rewards)


@register("advantage", "group_norm")
def group_norm(rewards: Tensor) -> Tensor:
    """(r - mean) / (std + 1e-6) within the group, std with n - 1 (GRPO, arXiv 2402.03300, section 4.1.2)."""
    _need_group("group_norm", rewards)
    return _center(rewards) / (_std(rewards) + EPSILON)


@register("advantage", "rloo")
def rloo(rewards: Tensor) -> Tensor:
    """r - mean of the *other* responses of its group: leave-one-out (arXiv 2402.14740, equation 6)."""
    _need_group("rloo", rewards)
    size = _count(rewards)
    return _center(rewards) * size / (size - 1).clamp(min=1)


@register("advantage", "batch_norm")
def batch_norm(rewards: Tensor) -> Tensor:
    """(r - mean) / (std + 1e-6) over the whole batch of all ranks, std with n - 1 (REINFORCE++, arXiv 2501.03262)."""
    if rewards.numel() < 2:
        raise ConfigError("advantage batch_norm compares the responses of a batch and needs at least 2 of them")
    every = rewards.flatten()
    return (_center(every) / (_std(every) + EPSILON)).view_as(rewards)


@register("advantage", "signed")
def signed(rewards: Tensor, *, threshold: float = 0.5) -> Tensor:
    """+1 where r > threshold, else -1 (NSR and PSR as in arXiv 2506.01347).

    Every wrong answer counts, also in groups where all are wrong, which `group_center` passes over.
    """
    return (rewards > threshold).to(rewards.dtype) * 2 - 1


@register("advantage", "weighted")
def weighted(rewards: Tensor, *, positive: float = 0.1, threshold: float = 0.5) -> Tensor:
    """lambda = `positive` where r > threshold, else -1 (W-REINFORCE, arXiv 2506.01347, section 5)."""
    right = (rewards > threshold).to(rewards.dtype)
    return right * positive - (1 - right)


@register("advantage", "negative_centered")
def negative_centered(rewards: Tensor) -> Tensor:
    """min(r - mean of its group, 0), less its mean over the batch of all ranks: NSR's weights with a baseline.

    The weights of NSR are all negative, so that to first order its step lowers whatever was sampled, right or wrong:
    the common mode. A baseline makes them add up to 0 over the batch, and takes that out. Keep `all`, as `prerl` does.
    Under `seq_mean_token_mean` each response has its weight once, and the sum is exactly 0; under `token_mean` it is 0
    in so far as responses have equal lengths.
    """
    _need_group("negative_centered", rewards)
    return _center(_center(rewards).clamp(max=0).flatten()).view_as(rewards)


def _center(rewards: Tensor) -> Tensor:
    """Rewards less their last dimension's mean; exactly 0 for equals, though the mean of eight 0.1 is not 0.1."""
    first = rewards[..., :1]
    some = first.where(~first.isnan(), rewards.nanmedian(-1, keepdim=True).values)
    shifted = rewards - some
    missing = shifted.isnan().any()
    return shifted - (shifted.nanmean(-1, keepdim=True) if missing else shifted.mean(-1, keepdim=True))


def _std(rewards: Tensor) -> Tensor:
    """The standard deviation over the last dimension, with n - 1; 0 for one reward among several responses, or none."""
    if not rewards.isnan().any():
        return rewards.std(-1, keepdim=True)
    squares = _center(rewards).square().nansum(-1, keepdim=True)
    return (squares / (_count(rewards) - 1).clamp(min=1)).sqrt()


def _count(rewards: Tensor) -> Tensor:
    """How many rewards the last dimension has, in the dtype of the rewards."""
    return (~rewards.isnan()).sum(-1, keepdim=True).to(rewards.dtype)


def _need_group(name: str, rewards: Tensor) -> None:
    if rewards.shape[-1] < 2:
        raise ConfigError(
            f"advantage {name} compares the responses of a group and needs responses_per_prompt >= 2, "
            f"not {rewards.shape[-1]}; raise it, or choose signed, weighted or batch_norm"
        )
