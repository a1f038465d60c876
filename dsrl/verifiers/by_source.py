"""Verifier `by_source`: another verifier for each data source."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dsrl.errors import ConfigError, nearest
from dsrl.registry import build, register
from dsrl.types import Prompt, Rollouts
from dsrl.verifiers.verifier import (
    RESERVED,
    Verifier,
    check_verifier,
    close_all,
    compute_rewards,
    extracted_answers_of,
)


@register("verifier", "by_source")
@dataclass(kw_only=True)
class BySource(Verifier):
    """Score each response by the verifier that is set for the `data_source` of its row.

    A key of `sources` that ends in `*` fits all data sources that begin with the text before it. Of several keys that
    fit, the longest counts, and the data source itself most.

    The mean reward of each key of `sources`, over the responses of its own rows, is logged as `reward/KEY`, without
    `/*` at the end of the key, and that of `default` as `reward/other`. Where that name is taken, by another key or by
    the whole reward, the ending stays: `reward/KEY/*`, or `reward/*` for the default.

    A row whose data source has no verifier is an error, unless there is a default.
    """

    sources: Any = field(default_factory=dict)
    """{DATA_SOURCE: verifier}, where a verifier is NAME or {name: NAME, parameter: value}."""
    default: Any = None
    """The verifier of all other data sources; null: there is none."""

    def __post_init__(self) -> None:
        """Build the verifiers, so that a misspelt one is refused before anything is loaded."""
        if not isinstance(self.sources, Mapping) or not self.sources:
            raise ConfigError(
                f"verifier by_source: sources must be a mapping, {{DATA_SOURCE: verifier}}, not {self.sources!r}"
            )
        self._parts = {str(source): build("verifier", spec) for source, spec in self.sources.items()}
        if self.default is not None:
            if "*" in self._parts:
                raise ConfigError("verifier by_source: sources has '*', for all others, and default is set: drop one")
            self._parts["*"] = build("verifier", self.default)
        for source in RESERVED:
            if source in self._parts:
                raise ConfigError(
                    f"verifier by_source: a source cannot be called '{source}': reward/{source} is a metric already; "
                    f"write '{source}*'"
                )
        self._labels = _labels(self._parts)

    def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute rewards [B, G] and components [B, G], which are NaN on the rows of other sources.

        Raises ConfigError for a data source without a verifier.
        """
        chosen = [self._key(prompt) for prompt in rollouts.prompts]
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
        return total, components

    def score(self, rollouts: Rollouts) -> Tensor:
        """Compute rewards [B, G]."""
        return self.score_with_components(rollouts)[0]

    def extract_answers(self, rollouts: Rollouts) -> list[str | None]:
        """Extract each answer as the verifier of its row does."""
        single = [rows_of(rollouts, [row]) for row in range(len(rollouts.prompts))]
        return [
            answer
            for prompt, group in zip(rollouts.prompts, single, strict=True)
            for answer in extracted_answers_of(self._parts[self._key(prompt)], group)
        ]

    def check(self) -> list[str]:
        """Return the problems of all verifiers."""
        return [problem for part in self._parts.values() for problem in check_verifier(part)]

    def close(self) -> None:
        """Close all verifiers."""
        close_all(self._parts.values())

    def _key(self, prompt: Prompt) -> str:
        """Return the key of `sources` that fits the prompt's data source best."""
        source = prompt.data_source
        fitting = [key for key in self._parts if key == source or (key.endswith("*") and source.startswith(key[:-1]))]
        if not fitting:
            known = list(self._parts)
            raise ConfigError(
                f"verifier by_source has none for data source '{source}'; it has {', '.join(known)}. Add it to "
                f"verifier.sources, or set verifier.default.{nearest(source, known)}"
            )
        return max(fitting, key=lambda key: (key == source, len(key)))


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


def _labels(keys: Iterable[str]) -> dict[str, str]:
    """Return the metric's name of each key: its short form, unless another key or the whole reward has that name."""
    short = {key: "other" if key == "*" else key.rstrip("*/") for key in keys}
    counts = Counter([*short.values(), *RESERVED, ""])
    return {key: label if label == key or counts[label] == 1 else key for key, label in short.items()}
