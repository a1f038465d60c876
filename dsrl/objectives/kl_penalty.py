"""The pull to the frozen reference policy as a term of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dsrl.objectives.kl import ESTIMATORS, KL
from dsrl.objectives.objective import Objective
from dsrl.registry import build
from dsrl.types import LossBatch, LossOutput, Metric


@dataclass(kw_only=True)
class KLPenalty(Objective):
    """The loss term of a KL: over all responses, in a space of its own, aggregated like the objective it serves."""

    kl: KL
    space: Any = "conditional"
    aggregate: Any = "token_mean"
    needs_reference: ClassVar[bool] = True
    needs_old_logprobs: ClassVar[bool] = False

    def advantages(self, rewards: Tensor) -> Tensor:
        """Unused by the loss; [B, G]."""
        return torch.zeros_like(rewards)

    def loss(self, logprobs: Tensor, batch: LossBatch) -> LossOutput:
        """Compute coefficient * aggregate(estimator(logprobs, reference)); logprobs [N, T].

        `kl/mean` is the mean of the estimator over tokens, however the loss aggregates them.
        """
        assert batch.reference_logprobs is not None
        values = ESTIMATORS[self.kl.estimator](logprobs, batch.reference_logprobs)
        mean = build("aggregate", self.aggregate)(values, batch.mask, batch.counts)
        found = {"kl/mean": Metric.mean(values, batch.mask)}
        return LossOutput(loss=self.coefficient * self.kl.coefficient * mean, metrics=found)
