"""Which tokens of a kept response count: 1 or 0 for each, decided once an iteration, before the update.

A token that does not count is in no loss and in no denominator: `token_mean` divides by the tokens that count,
`seq_mean_token_mean` by those of each sequence, and a sequence without any is no sequence. `constant` divides by what
it always does. A surrogate over whole sequences (gspo) is one over the tokens that count.

A part sees scores of the policy that sampled, without gradient, and says in which spaces it needs them. It is a pure
function of M tokens in any order: those of the kept responses of this rank, or of all ranks (`compares`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dsrl.errors import ConfigError
from dsrl.registry import register

SAME = 1e-4
"""Entropies that differ by less, as a part of the larger, are equal: responses that begin alike have the same
distributions, but for last bits, which depend on the shapes of a pass.
"""


@dataclass(kw_only=True)
class TokenWeight:
    """Say which tokens count. This is the base class; a subclass implements `counts` and says what it needs for it."""

    spaces: ClassVar[tuple[str, ...]] = ()
    """Names of the spaces in which it needs log-probabilities: a pass over the kept responses in each."""
    needs_entropy: ClassVar[bool] = False
    """Whether it needs entropies, too."""
    compares: ClassVar[bool] = False
    """Whether it compares tokens with one another, and so needs those of all ranks."""

    def counts(self, logprobs: Mapping[str, Tensor], entropies: Mapping[str, Tensor]) -> Tensor:
        """Choose among M tokens, bool [M].

        Args:
            logprobs: by space, log-probabilities [M] in nats.
            entropies: by space, entropies [M] of the distributions that these are of, in nats; empty where the part
                does not need them.
        """
        raise NotImplementedError


@register("token_weight", "all")
@dataclass(kw_only=True)
class AllTokens(TokenWeight):
    """Every token counts."""


@register("token_weight", "known")
@dataclass(kw_only=True)
class KnownTokens(TokenWeight):
    """Tokens count that can be known without the question: P(y_t) >= share * P(y_t|x), both given the tokens before.

    The others are those that the question makes likely. To lower or raise them in P(y) says nothing of the question.
    Costs a pass without gradient over the kept responses in each of the two spaces.
    """

    share: float = 0.5
    """Least P(y_t), as a part of P(y_t|x)."""
    spaces: ClassVar[tuple[str, ...]] = ("marginal", "conditional")

    def __post_init__(self) -> None:
        if not self.share > 0:
            raise ConfigError(f"token_weight known: share must be above 0, not {self.share}")

    def counts(self, logprobs: Mapping[str, Tensor], entropies: Mapping[str, Tensor]) -> Tensor:
        """See the base class."""
        return logprobs["marginal"] >= logprobs["conditional"] + math.log(self.share)


@register("token_weight", "entropy")
@dataclass(kw_only=True)
class HighEntropyTokens(TokenWeight):
    """The tokens count whose distributions P(.|x, y_<t) have the highest entropies: the top `share` of all tokens of
    kept responses, over all ranks (arXiv 2506.01939). Equal entropies at the edge all count.

    Costs a pass without gradient over the kept responses in the conditional space.
    """

    share: float = 0.2
    """Share of the tokens that count."""
    spaces: ClassVar[tuple[str, ...]] = ("conditional",)
    needs_entropy: ClassVar[bool] = True
    compares: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"token_weight entropy: share must be in (0, 1], not {self.share}")

    def counts(self, logprobs: Mapping[str, Tensor], entropies: Mapping[str, Tensor]) -> Tensor:
        """See the base class."""
        entropy = entropies["conditional"]
        if not len(entropy):
            return torch.zeros(0, dtype=torch.bool)
        lowest = entropy.kthvalue(len(entropy) - math.ceil(self.share * len(entropy)) + 1).values
        return entropy >= lowest * (1 - SAME)
