"""Verifier `composite`: a weighted sum of verifiers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dsrl.errors import ConfigError
from dsrl.registry import build_weighted, register
from dsrl.types import Prompt, Rollouts
from dsrl.verifiers.failures import Failures
from dsrl.verifiers.verifier import (
    APPLICABLE,
    RESERVED,
    Verifier,
    check_verifier,
    close_all,
    compute_rewards,
    extracted_answers_of,
    failures_of,
    ground_truth_problem,
    inner_names,
    may_not_apply,
    summary_of,
)

LABEL = re.compile(r"[\w-]+")


@register("verifier", "composite")
@dataclass(kw_only=True)
class Composite(Verifier):
    """Score the sum of the components' rewards, each times its weight.

    An entry of `components` without a `name` is the registered verifier that its key names; one with a `name` may have
    any label as its key. Without a `weight` it is 1.

    Each component's reward, without its weight, is logged as `reward/LABEL`, and the components of a component as
    `reward/LABEL/...`. A component that is not applicable to a response is left out of its sum, and the response out of
    the mean that is logged; where none is applicable, the response has no reward. What is an error in a component is an
    error here. The answer shown to people is that of
    the first component.
    """

    components: Any = field(default_factory=dict)
    """{NAME: weight}, or {LABEL: {name: NAME, weight: 1.0, parameter: value}}."""

    def __post_init__(self) -> None:
        """Build the components, so that a misspelt one is refused before anything is loaded."""
        self._parts = build_weighted("verifier", "verifier composite: components", self.components)
        for label in self._parts:
            if label in (*RESERVED, APPLICABLE) or not LABEL.fullmatch(label):
                raise ConfigError(
                    f"verifier composite: a component cannot be called '{label}': letters, digits, _ and - are "
                    f"allowed, and {', '.join(RESERVED)} and {APPLICABLE} are metrics already; give it a label and a "
                    "name of its own"
                )

    def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the weighted sum [B, G], and every component [B, G], which is NaN where it is not applicable.

        The component `applicable` is there where some component may have one.
        """
        total = torch.zeros(len(rollouts.prompts), rollouts.responses_per_prompt)
        parts: dict[str, Tensor] = {}
        components: dict[str, Tensor] = {}
        for label, (weight, part) in self._parts.items():
            parts[label], inner = compute_rewards(part, rollouts)
            total += weight * parts[label].nan_to_num()
            components |= {label: parts[label], **{f"{label}/{name}": values for name, values in inner.items()}}
        if may_not_apply(part for _, part in self._parts.values()):
            components[APPLICABLE] = torch.stack([~rewards.isnan() for rewards in parts.values()]).any(0).float()
        return total, components

    def score(self, rollouts: Rollouts) -> Tensor:
        """Compute rewards [B, G], NaN where no component is applicable."""
        return compute_rewards(self, rollouts)[0]

    def extract_answers(self, rollouts: Rollouts) -> list[str | None]:
        """Extract the answers as the first component does."""
        return extracted_answers_of(next(iter(self._parts.values()))[1], rollouts)

    def ground_truth_problem(self, prompt: Prompt) -> str | None:
        """Say which component cannot hold the ground truth of a row, and why; None where each can."""
        found = [ground_truth_problem(part, prompt) for _, part in self._parts.values()]
        return next((problem for problem in found if problem), None)

    def summary_of(self, prompts: Sequence[Prompt]) -> list[str]:
        """Say what the components make of the rows of a data set."""
        return [line for _, part in self._parts.values() for line in summary_of(part, prompts)]

    def check(self) -> list[str]:
        """Return the problems of all components."""
        return [problem for _, part in self._parts.values() for problem in check_verifier(part)]

    def component_names(self) -> list[str] | None:
        """Name the components, and theirs."""
        return inner_names({label: part for label, (_, part) in self._parts.items()})

    def take_failures(self) -> list[Failures]:
        """Give what each of them failed on since the last call."""
        return [failures for _, part in self._parts.values() for failures in failures_of(part)]

    def close(self) -> None:
        """Close all components."""
        close_all(part for _, part in self._parts.values())
