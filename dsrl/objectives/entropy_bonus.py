"""A bonus for the entropy of the policy, as a term of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dsrl.objectives.kl import k2
from dsrl.objectives.objective import Objective
from dsrl.registry import build, register
from dsrl.types import LossBatch, LossOutput, Metric


@register("objective", "entropy_bonus")
@dataclass(kw_only=True)
class EntropyBonus(Objective):
    """Raise the entropy of the next token, over all responses; alone it makes a policy random.

    With another objective: objective=mixed 'objective.objectives={grpo: 1.0, entropy_bonus: 0.01}'.

    The loss of a token is (log P)²/2, the k2 estimator of a KL to a uniform distribution, up to a constant. Of
    responses that the policy sampled, the expectation of its gradient is that of -H (score function: grad H =
    -E[log P grad log P]).
    """

    space: Any = "conditional"
    aggregate: Any = "token_mean"
    needs_old_logprobs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Build the aggregate once, so that a misspelt one is refused before anything is loaded."""
        build("aggregate", self.aggregate)

    def advantages(self, rewards: Tensor) -> Tensor:
        """Unused by the loss; [B, G]."""
        return torch.zeros_like(rewards)

    def loss(self, logprobs: Tensor, batch: LossBatch) -> LossOutput:
        """Compute coefficient * aggregate((log P)²/2); logprobs [N, T].

        `surprise/mean` is the mean of -log P over tokens, an estimate of the entropy of the policy that sampled.
        """
        values = k2(logprobs, torch.zeros_like(logprobs))
        mean = build("aggregate", self.aggregate)(values, batch.mask, batch.counts)
        return LossOutput(loss=self.coefficient * mean, metrics={"surprise/mean": Metric.mean(-logprobs, batch.mask)})
