"""The policy-gradient objective: a composition of small named parts. Every preset is one of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from dsrl.objectives.kl import KL
from dsrl.objectives.kl_penalty import KLPenalty
from dsrl.objectives.objective import Objective
from dsrl.objectives.token_weights import AllTokens, TokenWeight
from dsrl.registry import build
from dsrl.registry.blame import PartError, call_part, label_of
from dsrl.registry.returned import expect_tensor
from dsrl.types import LossBatch, LossOutput, Metric


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
    token_weight: Any = "all"
    kl: KL = field(default_factory=KL)
    skips_zero_advantages: ClassVar[bool] = True
    """Whether the loss of a sample is 0 where its advantage is, so that it need not be scored. True of every built-in
    surrogate; a subclass with a `loss` of its own has False, unless it declares True.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "loss" in vars(cls) and "skips_zero_advantages" not in vars(cls):
            cls.skips_zero_advantages = False

    def __post_init__(self) -> None:
        """Build every part once, so that a misspelt one is refused before anything is loaded."""
        for kind in ("space", "advantage", "keep", "surrogate", "aggregate", "token_weight"):
            build(kind, getattr(self, kind))
        build("space", self.kl.space)

    @property
    def terms(self) -> list[tuple[float, Objective]]:
        """The objective itself and, where the KL is in the loss, its pull to the reference."""
        pull = KLPenalty(kl=self.kl, space=self.kl.space, aggregate=self.aggregate, coefficient=self.coefficient)
        return [(1.0, self)] + ([(1.0, pull)] if self.kl.in_loss else [])

    @property
    def reward_kl(self) -> KL | None:
        """The k1 penalty, which belongs in the reward."""
        return self.kl if self.kl.in_reward else None

    @property
    def chosen_tokens(self) -> TokenWeight | None:
        """What says which tokens of kept responses count; None where all do."""
        part = self._part("token_weight")
        assert isinstance(part, TokenWeight)
        return None if isinstance(part, AllTokens) else part

    def advantages(self, rewards: Tensor) -> Tensor:
        """Compute advantages [B, G] from the rewards [B, G] of all ranks."""
        return self._returned("advantage", "advantages", self._call("advantage", rewards), rewards)

    def kept(self, rewards: Tensor, advantages: Tensor) -> Tensor:
        """Choose which samples count, bool [B, G]."""
        return self._returned("keep", "kept", self._call("keep", rewards, advantages), rewards)

    def scored(self, kept: Tensor, advantages: Tensor) -> Tensor:
        """Choose which samples the model must score, bool [B, G]: those kept, without advantages of 0 where these add
        nothing to the loss (`skips_zero_advantages`).
        """
        return kept & (advantages != 0) if self.skips_zero_advantages else kept

    def loss(self, logprobs: Tensor, batch: LossBatch) -> LossOutput:
        """Compute coefficient * aggregate(weights * surrogate); logprobs [N, T].

        `clip/fraction` is the share of the tokens scored that the surrogate clips.
        """
        found = self._call("surrogate", logprobs, batch.old_logprobs, batch.advantages, batch.mask)
        if not isinstance(found, tuple) or len(found) != 2:
            raise PartError(
                f"{label_of(self._part('surrogate'), 'surrogate')} must return the loss of each token and whether it "
                f"is clipped, a pair of tensors [N, T], not {type(found).__name__}"
            )
        losses = self._returned("surrogate", "losses", found[0], logprobs, "[N, T]")
        clipped = self._returned("surrogate", "clipped", found[1], logprobs, "[N, T]")
        losses = losses if batch.weights is None else losses * batch.weights
        loss = self._returned("aggregate", "loss", self._call("aggregate", losses, batch.mask, batch.counts), None)
        return LossOutput(loss=self.coefficient * loss, metrics={"clip/fraction": Metric.mean(clipped, batch.mask)})

    def _returned(self, kind: str, what: str, value: Any, like: Tensor | None, letters: str = "[B, G]") -> Tensor:
        """Return what one of the parts returned, if it is as it must be: a scalar, or of the shape of `like`."""
        shape, letters = (tuple(like.shape), letters) if like is not None else ((), "scalar")
        return expect_tensor(value, shape, owner=self._part(kind), kind=kind, what=what, letters=letters)

    def _call(self, kind: str, *arguments: Any) -> Any:
        return call_part(self._part(kind), kind, self._part(kind), *arguments)

    def _part(self, kind: str) -> Callable[..., Any]:
        if kind not in self._parts:
            self._parts[kind] = build(kind, getattr(self, kind))
        return self._parts[kind]

    @cached_property
    def _parts(self) -> dict[str, Callable[..., Any]]:
        return {}
