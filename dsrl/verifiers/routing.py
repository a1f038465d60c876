"""The base class of verifiers that score each row by one of several others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dsrl.errors import ConfigError
from dsrl.types import Prompt, Rollouts
from dsrl.verifiers.failures import Failures
from dsrl.verifiers.verifier import (
    APPLICABLE,
    SupportsScore,
    Verifier,
    check_verifier,
    close_all,
    compute_rewards,
    extracted_answers_of,
    failures_of,
    ground_truth_problem,
    inner_names,
    may_not_apply,
)


@dataclass(kw_only=True)
class Routing(Verifier):
    """Score the responses to each prompt by one of several verifiers.

    This is a base class. A subclass sets `_parts`, the verifiers by key, and `_labels`, the name of each key in the
    metrics, and implements `route`.
    """

    def __post_init__(self) -> None:
        self._parts: Mapping[str, SupportsScore] = {}
        self._labels: Mapping[str, str] = {}

    def route(self, prompt: Prompt) -> str:
        """Choose the key of the verifier of a prompt. Raises ConfigError where there is none."""
        raise NotImplementedError

    def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute rewards [B, G] and components [B, G], which are NaN on the rows of other verifiers.

        The component `applicable` is there where some verifier may have it, also one without rows here. Raises
        ConfigError for a row without a verifier.
        """
        chosen = [self.route(prompt) for prompt in rollouts.prompts]
        total = torch.zeros(len(rollouts.prompts), rollouts.responses_per_prompt)
        components: dict[str, Tensor] = {}
        for key, part in self._parts.items():
            rows = [row for row, name in enumerate(chosen) if name == key]
            if not rows:
                continue
            rewards, inner = compute_rewards(part, rows_of(rollouts, rows))
            total[rows] = rewards
            label = self._labels[key]
            named = {label: rewards, **{f"{label}/{name}": values for name, values in inner.items()}}
            for name, values in named.items():
                components.setdefault(name, torch.full_like(total, float("nan")))[rows] = values
        if may_not_apply(self._parts.values()):
            components[APPLICABLE] = (~total.isnan()).float()
        return total, components

    def score(self, rollouts: Rollouts) -> Tensor:
        """Compute rewards [B, G], NaN where the row's verifier does not apply."""
        return self.score_with_components(rollouts)[0]

    def extract_answers(self, rollouts: Rollouts) -> list[str | None]:
        """Extract each answer as the verifier of its row does."""
        single = [rows_of(rollouts, [row]) for row in range(len(rollouts.prompts))]
        return [
            answer
            for prompt, group in zip(rollouts.prompts, single, strict=True)
            for answer in extracted_answers_of(self._parts[self.route(prompt)], group)
        ]

    def ground_truth_problem(self, prompt: Prompt) -> str | None:
        """Say why a row has no verifier, or its verifier cannot hold its ground truth; None where it can."""
        try:
            part = self._parts[self.route(prompt)]
        except ConfigError as error:
            return str(error)
        return ground_truth_problem(part, prompt)

    def check(self) -> list[str]:
        """Return the problems of all verifiers."""
        return [problem for part in self._parts.values() for problem in check_verifier(part)]

    def component_names(self) -> list[str] | None:
        """Name the verifiers as the metrics do, and their components."""
        return inner_names({self._labels[key]: part for key, part in self._parts.items()})

    def take_failures(self) -> list[Failures]:
        """Give what each of them failed on since the last call."""
        return [failures for part in self._parts.values() for failures in failures_of(part)]

    def close(self) -> None:
        """Close all verifiers."""
        close_all(self._parts.values())


def rows_of(rollouts: Rollouts, prompts: Sequence[int]) -> Rollouts:
    """Select the rollouts of some prompts, given by their places in 0..B-1, in the order of `prompts`."""
    size = rollouts.responses_per_prompt
    rows = [prompt * size + response for prompt in prompts for response in range(size)]
    return dataclasses.replace(
        rollouts,
        prompts=[rollouts.prompts[prompt] for prompt in prompts],
        tokens=rollouts.tokens[rows],
        mask=rollouts.mask[rows],
        logprobs=rollouts.logprobs[rows],
        texts=[rollouts.texts[row] for row in rows],
        finish_reasons=[rollouts.finish_reasons[row] for row in rows],
    )
