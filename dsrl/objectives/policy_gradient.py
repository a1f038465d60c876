"""The policy-gradient objective: a composition of small named parts. Every preset is one of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from dsrl.objectives.kl import KL, KLPenalty
from dsrl.objectives.objective import Objective
from dsrl.registry import build
from dsrl.types import LossBatch, LossOutput


@dataclass(kw_only=True)
class PolicyGradient(Objective):
    """Each part is a name, or a mapping of name and parameters: `surrogate={name: ppo_clip, clip_high: 0.28}`.

    To change one, subclass and override a default or a method. The defaults are GRPO with token mean.
    """

    space: Any = "conditional"
    advantage: Any = "group_norm"
    keep: Any = "all"
    surrogate: Any = "ppo_clip"
    aggregate: Any = "token_mean"
    kl: KL = field(default_factory=KL)

    def __post_init__(self) -> None:
        """Builds every part once, so that a misspelt one is refused before anything is loaded."""
        for kind in ("space", "advantage", "keep", "surrogate", "aggregate"):
            build(kind, getattr(self, kind))
        build("space", self.kl.space)

    @property
    def terms(self) -> list[tuple[float, Objective]]:
        """Itself, and its pull to the reference where there is one in the loss."""
        pull = KLPenalty(kl=self.kl, space=self.kl.space, aggregate=self.aggregate, coefficient=self.coefficient)
        return [(1.0, self)] + ([(1.0, pull)] if self.kl.in_loss else [])

    @property
    def reward_kl(self) -> KL | None:
        """The k1 penalty, which belongs in the reward."""
        return self.kl if self.kl.in_reward else None

    def advantages(self, rewards: Tensor) -> Tensor:
        """Rewards [B, G] of all ranks to advantages [B, G]."""
        advantages: Tensor = self._part("advantage")(rewards)
        return advantages

    def kept(self, rewards: Tensor, advantages: Tensor) -> Tensor:
        """Which samples count, bool [B, G]."""
        kept: Tensor = self._part("keep")(rewards, advantages)
        return kept

    def scored(self, kept: Tensor, advantages: Tensor) -> Tensor:
        """Those kept whose advantage is not 0: a surrogate is proportional to it. One's own loss scores all kept."""
        return kept & (advantages != 0) if type(self).loss is PolicyGradient.loss else kept

    def loss(self, logprobs: Tensor, batch: LossBatch) -> LossOutput:
        """coefficient * aggregate(weights * surrogate); logprobs [N, T]. `clip/fraction` is a mean over kept tokens."""
        losses, held = self._part("surrogate")(logprobs, batch.old_logprobs, batch.advantages, batch.mask)
        losses = losses if batch.weights is None else losses * batch.weights
        loss = self._part("aggregate")(losses, batch.mask, batch.counts)
        clipped = (held & (batch.mask != 0)).sum() / max(batch.counts.tokens, 1)
        return LossOutput(loss=self.coefficient * loss, metrics={"clip/fraction": clipped})

    def _part(self, kind: str) -> Callable[..., Any]:
        if kind not in self._parts:
            self._parts[kind] = build(kind, getattr(self, kind))
        return self._parts[kind]

    @cached_property
    def _parts(self) -> dict[str, Callable[..., Any]]:
        return {}
