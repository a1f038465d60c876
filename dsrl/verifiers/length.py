"""A penalty for length that sets in before the limit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Rollouts
from dsrl.verifiers.verifier import Verifier


@register("verifier", "length")
@dataclass(kw_only=True)
class Length(Verifier):
    """DAPO's soft overlong punishment (arXiv 2503.14476, equation 13), from 0 to -1, of a response of |y| tokens.

        0                                      |y| <= max_length - cache
        (max_length - cache - |y|) / cache     between them
        -1                                     |y| > max_length

    DAPO's own: max_length 20480, cache 4096, beside a reward of 1 or -1. A response that `sampling.max_new_tokens` cuts
    off has that many tokens: the penalty is whole where that is max_length.
    """

    max_length: int
    cache: int

    def __post_init__(self) -> None:
        if not 1 <= self.cache <= self.max_length:
            raise ConfigError(
                f"verifier length: cache={self.cache} must be from 1 to max_length={self.max_length}, in tokens"
            )

    def score(self, rollouts: Rollouts) -> Tensor:
        """Rewards [B, G] float32."""
        free = self.max_length - self.cache
        penalty = ((free - rollouts.lengths.float()) / self.cache).clamp(-1.0, 0.0)
        return penalty.view(len(rollouts.prompts), rollouts.responses_per_prompt)
