"""Verifier `length`: a penalty for long responses, which begins before the limit."""

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
    """Penalize length by DAPO's soft overlong punishment (arXiv 2503.14476, equation 13): from 0 down to -1.

    A response of |y| tokens, its end token included, scores

        0                                      |y| <= max_length - cache
        (max_length - cache - |y|) / cache     between the two
        -1                                     |y| > max_length

    DAPO used max_length 20480 and cache 4096, and added the penalty to a reward of 1 or -1 (`composite` adds them).
    A response that was cut off has `sampling.max_new_tokens` tokens, so it gets the whole penalty where that is
    max_length. It reads no ground truth. Responses without token ids, as `score_texts` may have, are an error.
    """

    max_length: int
    """Length in tokens from which on the penalty is -1."""
    cache: int
    """Tokens below max_length over which the penalty grows from 0 to -1; from 1 to max_length."""

    def __post_init__(self) -> None:
        if not 1 <= self.cache <= self.max_length:
            raise ConfigError(
                f"verifier length: cache={self.cache} must be from 1 to max_length={self.max_length}, in tokens"
            )

    def score(self, rollouts: Rollouts) -> Tensor:
        """Compute rewards [B, G] float32. Raises ConfigError where a response has a text but no tokens."""
        if any(text and not length for text, length in zip(rollouts.texts, rollouts.lengths.tolist(), strict=True)):
            raise ConfigError(
                "verifier length counts tokens, and these responses have none; in score_texts, give completion_ids"
            )
        free = self.max_length - self.cache
        penalty = ((free - rollouts.lengths.float()) / self.cache).clamp(-1.0, 0.0)
        return penalty.view(len(rollouts.prompts), rollouts.responses_per_prompt)
