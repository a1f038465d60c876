"""Pull to the frozen reference policy.

The samples come from P(y|x). In the conditional space the estimators below therefore estimate KL(policy, reference)
per token (k1, k2, k3 of http://joschu.net/blog/kl-approx.html). In the marginal space they are a regulariser that keeps
log P(y) of the sampled answers near the reference's, not an estimate of a divergence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dsrl.errors import ConfigError


def k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """log p - log ref: unbiased; its gradient as a loss has expectation 0, so it belongs in the reward. [N, T]"""
    return logprobs - reference


def k2(logprobs: Tensor, reference: Tensor) -> Tensor:
    """(log p - log ref)^2 / 2: its gradient is the reverse KL's. [N, T]"""
    return (logprobs - reference).square() / 2


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = log ref - log p: unbiased, never negative (GRPO, arXiv 2402.03300, equation 4). [N, T]"""
    difference = reference - logprobs
    return difference.exp() - difference - 1


ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}


@dataclass(kw_only=True)
class KL:
    """`coefficient` 0 is no pull and no reference model. k2 and k3 are a loss; k1 is taken from the reward."""

    coefficient: float = 0.0
    estimator: str = "k3"
    space: Any = "conditional"

    def __post_init__(self) -> None:
        if self.coefficient < 0:
            raise ConfigError(f"kl.coefficient must be at least 0, not {self.coefficient}")
        if self.estimator not in ESTIMATORS:
            raise ConfigError(f"kl.estimator must be one of {', '.join(ESTIMATORS)}, not '{self.estimator}'")

    @property
    def in_reward(self) -> bool:
        """Whether it is taken from the reward, summed over a response's tokens, before advantages."""
        return self.coefficient > 0 and self.estimator == "k1"

    @property
    def in_loss(self) -> bool:
        """Whether it is a term of the loss."""
        return self.coefficient > 0 and self.estimator != "k1"
