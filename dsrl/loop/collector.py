"""Prompts -> rollouts -> rewards: in training, in validation and in an evaluation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from dsrl.loop.metrics import rollout_metrics
from dsrl.loop.stopwatch import Stopwatch
from dsrl.parallel.collectives import all_max
from dsrl.samplers import Sampler
from dsrl.samplers.border import draw
from dsrl.thoughts import Thoughts, spans_of
from dsrl.thoughts.counting import Spans
from dsrl.types import Metric, Metrics, Prompt, Rewards, Rollouts, SamplingParams
from dsrl.verifiers import SupportsScore, compute_rewards
from dsrl.verifiers.verifier import extracted_answers_of


@dataclass(kw_only=True, slots=True)
class RolloutBatch:
    """What was sampled, and what it is worth.

    Args:
        rollouts: N = B * G responses.
        params: how they were drawn.
        rewards: [B, G] float32, on the CPU; NaN where the verifier does not apply, and the response has none.
        components: what rewards are made of by name, each [B, G]; NaN where one is not applicable.
        extracted_answers: N texts, what the verifier takes for the answer in each response; None where it extracts no
            answers.
        thoughts: those of each of the N responses by class, as places in its text; empty where none are looked for.
        metrics: of the rollouts and rewards (`reward/mean`, `response/length_mean`, ...).
    """

    rollouts: Rollouts
    params: SamplingParams
    rewards: Tensor
    components: dict[str, Tensor] = field(default_factory=dict)
    extracted_answers: list[str | None] = field(default_factory=list)
    thoughts: list[Spans] = field(default_factory=list)
    metrics: Metrics = field(default_factory=dict)

    def record(self, row: int) -> dict[str, Any]:
        """Describe response `row` in plain values, as `samples.jsonl` has it; components only where applicable. A
        reward of None is none.
        """
        rollouts, prompt = self.rollouts, self.rollouts.prompt_of(row)
        reward = float(self.rewards.reshape(-1)[row])
        parts = {name: float(values.reshape(-1)[row]) for name, values in self.components.items()}
        return {
            "prompt": prompt.text,
            "response": rollouts.texts[row],
            "extracted_answer": self.extracted_answers[row],
            "ground_truth": prompt.ground_truth,
            "reward": None if math.isnan(reward) else reward,
            "components": {name: value for name, value in parts.items() if not math.isnan(value)},
            "length": int(rollouts.lengths[row]),
            "finish_reason": rollouts.finish_reasons[row],
            "data_source": prompt.data_source,
            **({"thoughts": self.thoughts[row]} if self.thoughts else {}),
        }

    def replacing(self, groups: Sequence[int], fresh: RolloutBatch) -> RolloutBatch:
        """Replace some groups, prompt and responses, by the groups of a fresh batch in their order.

        A component that only one of the batches has, as of another data source, is NaN in the other's groups.
        """
        if not groups:
            return self
        size = self.rollouts.responses_per_prompt
        answers, thoughts = list(self.extracted_answers), list(self.thoughts)
        for place, group in enumerate(groups):
            old, new = slice(group * size, (group + 1) * size), slice(place * size, (place + 1) * size)
            answers[old], thoughts[old] = fresh.extracted_answers[new], fresh.thoughts[new]
        index = torch.tensor(groups)
        return dataclasses.replace(
            self,
            rollouts=self.rollouts.replacing(groups, fresh.rollouts),
            rewards=self.rewards.index_copy(0, index, fresh.rewards),
            components={
                name: _component(self, name).index_copy(0, index, _component(fresh, name))
                for name in {**self.components, **fresh.components}
            },
            extracted_answers=answers,
            thoughts=thoughts,
        )


class PromptSource(Protocol):
    """Where dynamic sampling finds other prompts, and where a curriculum learns what was answered."""

    def update(self, prompts: Sequence[Prompt], rewards: Tensor) -> None:
        """Take note of the rewards [B, G] of this rank's prompts. Every rank calls it."""

    def replacement_for(self, prompt: Prompt, iteration: int) -> Prompt:
        """Choose another prompt in the place of one whose group gave no signal."""

    def metrics(self) -> Metrics:
        """Measure what the curriculum did in this iteration; starts over."""


@dataclass(kw_only=True)
class Collector:
    """Sample responses to prompts and compute their rewards.

    Args:
        sampler: draws the responses, from the policy's current weights.
        verifier: has `score(rollouts) -> [B, G]`.
        dynamic_sampling: how often, at most, groups whose rewards are all equal, or that have fewer than two, are
            replaced by another prompt's (DAPO, arXiv 2503.14476, section 3.2); only where `collect` is given a source
            of prompts.
        thoughts: finds thoughts in the responses; None looks for none.
        clock: times `sample` and `verify`.
    """

    sampler: Sampler
    verifier: SupportsScore
    dynamic_sampling: int = 0
    thoughts: Thoughts | None = None
    clock: Stopwatch = field(default_factory=Stopwatch)

    def collect(
        self, prompts: list[Prompt], params: SamplingParams, source: PromptSource | None = None
    ) -> RolloutBatch:
        """Collect one batch. A collective: every rank calls it, one without prompts, too.

        Args:
            prompts: B prompts of this rank.
            params: how responses are drawn; G is `params.responses_per_prompt`.
            source: of training: what was asked and answered is reported to it, and replacements come from it.

        Raises:
            DSRLError: the verifier returned another shape than [B, G], or a NaN.
        """
        batch = self._collect_once(prompts, params)
        found: Metrics = {}
        if source is not None:
            source.update(batch.rollouts.prompts, batch.rewards)
            batch, found = self._replace_groups_without_signal(batch, source)
            found |= source.metrics()
        batch.metrics = rollout_metrics(batch.rollouts, batch.rewards, batch.components, batch.thoughts) | found
        return batch

    def _collect_once(self, prompts: list[Prompt], params: SamplingParams) -> RolloutBatch:
        with self.clock("sample"):
            rollouts = draw(self.sampler, prompts, params)
        return self.verify(rollouts, params)

    def verify(self, rollouts: Rollouts, params: SamplingParams) -> RolloutBatch:
        """Compute the rewards of responses that were drawn with `params`, where they do not come with them, and find
        thoughts; `metrics` stay empty.

        Raises DSRLError where the verifier returned another shape than [B, G], or a NaN; and where a thought is no
        stretch of its text.
        """
        with self.clock("verify"):
            found = rollouts.rewards or self._rewards_of(rollouts)
            thoughts = [] if self.thoughts is None else spans_of(self.thoughts, rollouts.texts)
        return RolloutBatch(
            rollouts=rollouts,
            params=params,
            rewards=found.values,
            components=dict(found.components),
            extracted_answers=list(found.extracted_answers),
            thoughts=thoughts,
        )

    def _rewards_of(self, rollouts: Rollouts) -> Rewards:
        rewards, components = compute_rewards(self.verifier, rollouts)
        return Rewards(
            values=rewards.cpu(),
            components={name: values.cpu() for name, values in components.items()},
            extracted_answers=extracted_answers_of(self.verifier, rollouts),
        )

    def _replace_groups_without_signal(self, batch: RolloutBatch, source: PromptSource) -> tuple[RolloutBatch, Metrics]:
        """The batch with such groups replaced as often as allowed, and what that cost."""
        replacements, sampled = 0, float(batch.rollouts.lengths.sum())
        for _ in range(self.dynamic_sampling):
            groups = without_signal(batch.rewards).nonzero()[:, 0].tolist()
            if not all_max(len(groups)):
                break
            others = [source.replacement_for(batch.rollouts.prompts[group], batch.params.iteration) for group in groups]
            fresh = self._collect_once(others, batch.params)
            source.update(others, fresh.rewards)
            sampled += float(fresh.rollouts.lengths.sum())
            replacements += len(others)
            batch = batch.replacing(groups, fresh)
        if not self.dynamic_sampling:
            return batch, {}
        return batch, {
            "dynamic_sampling/prompts": Metric.total(replacements),
            "tokens/sampled": Metric.total(sampled),
        }


def without_signal(rewards: Tensor) -> Tensor:
    """Find the groups whose rewards [B, G], of the responses that have one, are all equal, [B] bool."""
    differences = (rewards[:, :, None] - rewards[:, None, :]).nan_to_num()
    return ~(differences != 0).flatten(1).any(-1)


def _component(batch: RolloutBatch, name: str) -> Tensor:
    found: Mapping[str, Tensor] = batch.components
    return found[name] if name in found else torch.full_like(batch.rewards, math.nan)
