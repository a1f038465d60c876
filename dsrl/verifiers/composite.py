"""A weighted sum of verifiers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dsrl.errors import ConfigError
from dsrl.registry import build_weighted, register
from dsrl.types import Rollouts
from dsrl.verifiers.verifier import TAKEN, Verifier, close_all, compute_rewards, extracted_answers_of, problems_of

LABEL = re.compile(r"[\w-]+")


@register("verifier", "composite")
@dataclass(kw_only=True)
class Composite(Verifier):
    """The sum of its components' rewards, each times its weight.

    `components` maps a registered name to its weight, or to {weight, parameter: value}; a key may be any label where
    the entry has a `name` of its own. Each component's unweighted reward is logged as `reward/LABEL`, and what a
    component itself consists of as `reward/LABEL/...`; where a component is not applicable it adds 0, and its mean
    leaves that out. The answer for people is that of the first component.
    """

    components: Any = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Builds the components, so that a misspelt one is refused before anything is loaded."""
        self._parts = build_weighted("verifier", "verifier composite: components", self.components)
        for label in self._parts:
            if label in TAKEN or not LABEL.fullmatch(label):
                raise ConfigError(
                    f"verifier composite: a component cannot be called '{label}': letters, digits, _ and - are "
                    f"allowed, and {' and '.join(TAKEN)} are metrics already; give it a label and a name of its own"
                )

    def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum [B, G], and every component [B, G]: NaN where it is not applicable."""
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
        """Rewards [B, G]."""
        return self.score_with_components(rollouts)[0]

    def extract_answers(self, rollouts: Rollouts) -> list[str]:
        """As the first component reads them."""
        return extracted_answers_of(next(iter(self._parts.values()))[1], rollouts)

    def check(self) -> list[str]:
        """Problems of the components."""
        return [problem for _, part in self._parts.values() for problem in problems_of(part)]

    def close(self) -> None:
        """Close the components."""
        close_all(part for _, part in self._parts.values())
