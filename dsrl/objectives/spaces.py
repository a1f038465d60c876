"""A space is a context: the token ids that a response is scored after.

A space is a function of (prompt, policy tokens, rng) to token ids. `rng` is seeded by (seed, iteration, prompt
position), the same on every rank. Register one of your own in five lines:

    @register("space", "system_only")
    def system_only(prompt, encoder, rng):
        return encoder.encode([m for m in prompt.messages if m["role"] == "system"])
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dsrl.registry import register

if TYPE_CHECKING:
    from dsrl.data.encoding import PromptEncoder
    from dsrl.types import Prompt

Space = Callable[["Prompt", "PromptEncoder", random.Random], Sequence[int]]


@register("space", "conditional")
def conditional(prompt: Prompt, encoder: PromptEncoder, rng: random.Random) -> Sequence[int]:
    """The prompt's tokens x: gives log P(y|x), post-train space."""
    return prompt.token_ids


@register("space", "marginal")
def marginal(prompt: Prompt, encoder: PromptEncoder, rng: random.Random) -> Sequence[int]:
    """One start token: gives log P(y), pre-train space (arXiv 2604.14142, section 3)."""
    return (encoder.start_token_id,)
