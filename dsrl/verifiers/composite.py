"""Verifier `composite`: a weighted sum of verifiers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dsrl.errors import ConfigError
from dsrl.registry import build_weighted, register
from dsrl.types import Rollouts
from dsrl.verifiers.verifier import (
    RESERVED,
    Verifier,
    check_verifier,
    close_all,
    compute_rewards,
    extracted_answers_of,
)

LABEL = re.compile(r"[\w-]+")


@register("verifier", "composite")
@dataclass(kw_only=True)
class Composite(Verifier):
    """Score the sum of the components' rewards, each times its weight.

    An entry of `components` without a `name` is the registered verifier that its key names; one with a `name` may have
    any label as its key. Without a `weight` it is 1.

    Each component's reward, without its weight, is logged as `reward/LABEL`, and the components of a component as
    `reward/LABEL/...`. A component that is not applicable to a response adds 0 to its sum, and the mean that is logged
    leaves the response out. What is an error in a component is an error here. The answer shown to people is that of
    the first component.
    """

    components: Any = field(default_factory=dict)
    """{NAME: weight}, or {LABEL: {name: NAME, weight: 1.0, parameter: value}}."""

    def __post_init__(self) -> None:
        """Build the components, so that a misspelt one is refused before anything is loaded."""
        self._parts = build_weighted("verifier", "verifier composite: components", self.components)
        for label in self._parts:
            if label in RESERVED or not LABEL.fullmatch(label):
                raise ConfigError(
                    f"verifier composite: a component cannot be called '{label}': letters, digits, _ and - are "
                    f"allowed, and {' and '.join(RESERVED)} are metrics already; give it a label and a name of its own"
                )

    def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the weighted sum [B, G], and every component [B, G], which is NaN where it is not applicable."""
        total = torch.zeros(len(rollouts.prompts), rollouts.responses_per_prompt)
        components = {}
        for label, (weight, part) in self._parts.items():
            rewards, inner = compute_rewards(part, rollouts)
            total += weight * rewards
            applicable = inner.get("applicable", torch.ones_like(rewards)) > 0
            components[label] = rewards.masked_fill(~applicable, float("nan"))
            components |= {f"{label}/{name}": values for name, values in inner.items()}
        return total, components

    def score(self, rollouts: Rollouts) -> Tensor:
        """Compute rewards [B, G]."""
        return self.score_with_components(rollouts)[0]

    def extract_answers(self, rollouts: Rollouts) -> list[str | None]:
        """Extract the answers as the first component does."""
        return extracted_answers_of(next(iter(self._parts.values()))[1], rollouts)

    def check(self) -> list[str]:
        """Return the problems of all components."""
        return [problem for _, part in self._parts.values() for problem in check_verifier(part)]

    def close(self) -> None:
        """Close all components."""
        close_all(part for _, part in self._parts.values())
