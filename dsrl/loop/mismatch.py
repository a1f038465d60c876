"""Trainer and sampler compute the same probabilities with other kernels: how far apart they are, and what corrects it.

Both speak of P(y|x), the distribution that responses are drawn from. The ratio of two P(y) corrects nothing, since no
response was drawn from P(y): in other spaces than the conditional one there are no weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dsrl.config.schema import MismatchConfig
from dsrl.parallel.collectives import all_max, all_sum


@dataclass(kw_only=True, slots=True)
class Mismatch:
    """Absolute differences of log-probabilities, and the weights that correct them, over this rank's tokens."""

    total: float = 0.0
    tokens: float = 0.0
    largest: float = 0.0
    weight: float = 0.0
    capped: float = 0.0
    weighted: float = 0.0

    def observe(self, trainer: Tensor, sampler: Tensor, mask: Tensor, correction: Correction | None = None) -> None:
        """Add tokens: log-probabilities of both [N, T], mask [N, T] true on those that count."""
        difference = (trainer.detach() - sampler).abs()[mask]
        if len(difference):
            self.total += float(difference.sum(dtype=torch.float64))
            self.tokens += len(difference)
            self.largest = max(self.largest, float(difference.max()))
        if correction is not None:
            weights = correction.weights(trainer, sampler, mask)[mask]
            self.weight += float(weights.sum(dtype=torch.float64))
            self.capped += float(((weights >= correction.cap) | (weights == 0)).sum())
            self.weighted += len(weights)

    def metrics(self, device: torch.device) -> dict[str, float]:
        """`mismatch/mean` and `mismatch/max` over all ranks, and, where it is corrected, the mean weight of a token and
        the share of tokens over the cap; nothing where no token was observed on any.
        """
        sums = [self.total, self.tokens, self.weight, self.capped, self.weighted]
        total, tokens, weight, capped, weighted = all_sum(sums, device)
        largest = all_max(self.largest, device)
        found = {"mismatch/mean": total / tokens, "mismatch/max": largest} if tokens else {}
        if weighted:
            found |= {"mismatch/weight": weight / weighted, "mismatch/capped": capped / weighted}
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """Truncated importance weights P_trainer / P_sampler of what was sampled.

    level "token": of each token, given those before it, which leaves the bias of the prefix; "sequence": of the whole
    response, one weight for all of its tokens, without that bias and of more variance. Above `cap`, "truncate" takes
    the cap (Ionides 2008), and "mask" takes 0.
    """

    level: str
    mode: str
    cap: float

    def weights(self, trainer: Tensor, sampler: Tensor, mask: Tensor) -> Tensor:
        """Weights [N, T] without gradient, from log-probabilities of both [N, T]; 0 where mask is false."""
        log_ratio = (trainer.detach() - sampler).masked_fill(~mask, 0.0)
        if self.level == "sequence":
            log_ratio = log_ratio.sum(-1, keepdim=True).expand_as(log_ratio)
        ratio = log_ratio.exp()
        weights = ratio.clamp(max=self.cap) if self.mode == "truncate" else ratio.where(ratio <= self.cap, 0.0)
        return weights.masked_fill(~mask, 0.0)


def correction_of(settings: MismatchConfig, *, exact: bool) -> Correction | None:
    """Make the importance weights that the settings ask for; None without any.

    exact: whether sampler and trainer compute the same probabilities, but for the last bits: `auto` corrects none then.
    """
    if settings.correction == "off" or (settings.correction == "auto" and exact):
        return None
    return Correction(level=settings.level, mode=settings.mode, cap=settings.cap)
