"""The base of objectives: what the loop asks of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from dsrl.types import LossBatch, LossOutput

if TYPE_CHECKING:
    from dsrl.objectives.kl import KL
    from dsrl.objectives.token_weights import TokenWeight


@dataclass(kw_only=True)
class Objective:
    """Base of objectives: pure functions of rewards, log-probabilities and masks.

    A subclass gives `space` (a field or property: the spec of a registered space), `advantages` and `loss`. It never
    sees the step, the configuration or the model. `coefficient` scales the loss.
    """

    coefficient: float = 1.0
    needs_old_logprobs: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False
    if TYPE_CHECKING:
        space: Any = "conditional"

    @property
    def terms(self) -> list[tuple[float, Objective]]:
        """(weight, objective): what is scored and added up. By default itself alone."""
        return [(1.0, self)]

    @property
    def reward_kl(self) -> KL | None:
        """The KL that is taken from the reward before `advantages`, if any."""
        return None

    @property
    def chosen_tokens(self) -> TokenWeight | None:
        """What says which tokens of kept responses count; None where all do."""
        return None

    def advantages(self, rewards: Tensor) -> Tensor:
        """Compute advantages [B, G] from the rewards [B, G] of all ranks, NaN where a response has none.

        What is returned for a response without a reward is of no account.
        """
        raise NotImplementedError

    def kept(self, rewards: Tensor, advantages: Tensor) -> Tensor:
        """Choose which samples count, bool [B, G]; the others are in no denominator. By default all."""
        return torch.ones_like(advantages, dtype=torch.bool)

    def scored(self, kept: Tensor, advantages: Tensor) -> Tensor:
        """Choose which samples the model must score, bool [B, G]: those kept that add something to the loss."""
        return kept

    def loss(self, logprobs: Tensor, batch: LossBatch) -> LossOutput:
        """Compute the micro-batch's share of the loss; logprobs [N, T] carry the gradient.

        A metric of one's own is a sum and a count, so that it does not depend on how the batch is cut:
        `LossOutput(loss=..., metrics={"margin/mean": Metric.mean(margin, batch.mask)})`.
        """
        raise NotImplementedError
