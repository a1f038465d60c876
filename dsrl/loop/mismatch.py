"""Trainer and sampler compute the same probabilities with different kernels: measure the difference, and correct it.

Both compute P(y|x), the distribution that responses are drawn from. The ratio of two P(y) corrects nothing, since no
response was drawn from P(y): there are no weights in spaces other than the conditional one.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dsrl.config.schema import MismatchConfig
from dsrl.types import Metric, Metrics


def mismatch_metrics(trainer: Tensor, sampler: Tensor, mask: Tensor) -> Metrics:
    """Measure how far the sampler's log-probabilities are from the trainer's.

    Args:
        trainer: the policy's log-probabilities of the sampled tokens, [N, T].
        sampler: the sampler's own, [N, T].
        mask: [N, T] bool, true on the tokens that count.

    Returns:
        `mismatch/mean` and `mismatch/max` of the absolute difference, in nats. Nothing where no token counts.
    """
    if not mask.any():
        return {}
    difference = (trainer.detach() - sampler).abs()
    return {
        "mismatch/mean": Metric.mean(difference, mask),
        "mismatch/max": Metric.largest(difference[mask].max()),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """Truncated importance weights P_trainer / P_sampler of sampled responses.

    Args:
        level: "token", a weight for each token given those before it, which leaves the bias of the prefix; or
            "sequence", one weight for all tokens of a response, without that bias and with more variance.
        mode: what becomes of a weight above the cap: "truncate" takes the cap (Ionides 2008), "mask" takes 0.
        cap: the largest weight.
    """

    level: str
    mode: str
    cap: float

    def weights(self, trainer: Tensor, sampler: Tensor, mask: Tensor) -> Tensor:
        """Compute weights [N, T] without gradient, from the log-probabilities of both [N, T]; 0 off the mask."""
        log_ratio = (trainer.detach() - sampler).masked_fill(~mask, 0.0)
        if self.level == "sequence":
            log_ratio = log_ratio.sum(-1, keepdim=True).expand_as(log_ratio)
        ratio = log_ratio.exp()
        weights = ratio.clamp(max=self.cap) if self.mode == "truncate" else ratio.where(ratio <= self.cap, 0.0)
        return weights.masked_fill(~mask, 0.0)

    def metrics(self, weights: Tensor, mask: Tensor) -> Metrics:
        """Measure `mismatch/weight`, the mean weight of a token, and `mismatch/capped`, the share over the cap."""
        return {
            "mismatch/weight": Metric.mean(weights, mask),
            "mismatch/capped": Metric.mean((weights >= self.cap) | (weights == 0), mask),
        }


def correction_of(settings: MismatchConfig, *, exact: bool) -> Correction | None:
    """Make the importance weights that the settings ask for; None without any.

    exact: whether sampler and trainer compute the same probabilities, but for the last bits: `auto` corrects none then.
    """
    if settings.correction == "off" or (settings.correction == "auto" and exact):
        return None
    return Correction(level=settings.level, mode=settings.mode, cap=settings.cap)
