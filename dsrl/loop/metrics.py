"""Metrics: avg@k and pass@k of validation, what an iteration's rollouts look like, and where its time goes."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torchmetrics import Metric

from dsrl.loop.experience import Experience
from dsrl.objectives.kl import KLPenalty

APPLICABLE = "applicable/"
CORRECT_THRESHOLD = 0.5
"""An answer with a greater reward counts as right."""


class SampledAccuracy(Metric):
    """avg@k and pass@j for every j up to k, over questions with k sampled answers each."""

    full_state_update = False
    questions: Tensor
    average: Tensor
    passed: Tensor

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.add_state("questions", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("average", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("passed", torch.zeros(k, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, rewards: Tensor, threshold: float = CORRECT_THRESHOLD) -> None:
        """Add questions: rewards [B, k]. avg@k is their mean; an answer with more than `threshold` is right."""
        right = (rewards > threshold).sum(-1)
        self.questions += len(rewards)
        self.average += rewards.double().mean(-1).sum()
        for j in range(1, self.k + 1):
            self.passed[j - 1] += sum(pass_at(j, self.k, int(count)) for count in right)

    def compute(self) -> dict[str, Tensor]:
        """{"avg@k", "pass@1", ..., "pass@k"}; NaN without questions."""
        passed = {f"pass@{j}": self.passed[j - 1] / self.questions for j in range(1, self.k + 1)}
        return {f"avg@{self.k}": self.average / self.questions, **passed}


def pass_at(j: int, samples: int, right: int) -> float:
    """Probability that j answers drawn without replacement from `samples`, `right` of them right, contain a right one.

    The unbiased estimator 1 - C(n - c, j) / C(n, j) (arXiv 2107.03374, equation 1).
    """
    return 1.0 - math.comb(samples - right, j) / math.comb(samples, j)


def rollout_sums(experience: Experience, reflection: re.Pattern[str]) -> dict[str, float]:
    """Sums over this rank's rollouts; over all ranks, `rollout_means` divides them."""
    rollouts, rewards = experience.rollouts, experience.rewards.double()
    choosing = [term for term in experience.terms if not isinstance(term.objective, KLPenalty)]  # that is over all
    kept = torch.stack([term.kept for term in choosing]).any(0)
    scored = torch.stack([view.scored for view in experience.views]).sum(0)
    contexts = [torch.tensor([len(context) for context in view.contexts]) for view in experience.views]
    tokens = sum(
        int((view.scored * (length + rollouts.lengths)).sum())
        for view, length in zip(experience.views, contexts, strict=True)
    )
    return {
        "samples": float(rewards.numel()),
        "prompts": float(len(rewards)),
        "reward": float(rewards.sum()),
        "reward_squared": float(rewards.square().sum()),
        "solved_all": float((rewards.min(-1).values > CORRECT_THRESHOLD).sum()),
        "solved_none": float((rewards.max(-1).values <= CORRECT_THRESHOLD).sum()),
        "length": float(rollouts.lengths.sum()),
        "truncated": float(sum(reason == "length" for reason in rollouts.finish_reasons)),
        "reflections": float(sum(len(reflection.findall(text)) for text in rollouts.texts)),
        "prompt_length": float(sum(len(prompt.token_ids) for prompt in rollouts.prompts)),
        "prompt_truncated": float(sum(prompt.truncated for prompt in rollouts.prompts)),
        "kept": float(kept.sum()),
        "scored": float((scored > 0).sum()),
        "scored_tokens": float(tokens),
    }


def rollout_means(sums: dict[str, float]) -> dict[str, float]:
    """The metrics of an iteration from its sums over all ranks."""
    samples, prompts = max(1.0, sums["samples"]), max(1.0, sums["prompts"])
    mean = sums["reward"] / samples
    return {
        "reward/mean": mean,
        "reward/std": max(0.0, sums["reward_squared"] / samples - mean**2) ** 0.5,
        "group/all_right": sums["solved_all"] / prompts,
        "group/all_wrong": sums["solved_none"] / prompts,
        "response/length_mean": sums["length"] / samples,
        "response/truncated": sums["truncated"] / samples,
        "response/reflections": sums["reflections"] / samples,
        "prompt/length_mean": sums["prompt_length"] / prompts,
        "prompt/truncated": sums["prompt_truncated"] / prompts,
        "kept/fraction": sums["kept"] / samples,
        "scored/fraction": sums["scored"] / samples,
        "tokens/sampled": sums["length"],
        "tokens/scored": sums["scored_tokens"],
    }


def replace_components(old: Mapping[str, Tensor], fresh: Mapping[str, Tensor], groups: Tensor) -> dict[str, Tensor]:
    """Components [B, G] with those of some groups, [n] long, replaced by the fresh ones [n, G]. What one side alone
    has, as of a data source that the other did not ask, is NaN, not applicable, on the other.
    """

    def of(side: Mapping[str, Tensor], key: str) -> Tensor:
        return side[key] if key in side else torch.full_like(next(iter(side.values())), math.nan)

    return {key: of(old, key).index_copy(0, groups, of(fresh, key)) for key in {**old, **fresh}}


def component_sums(components: Mapping[str, Tensor]) -> dict[str, float]:
    """Sums and counts of a reward's components, each [B, G] and NaN where it is not applicable."""
    sums = {f"reward/{name}": float(values.double().nansum()) for name, values in components.items()}
    counts = {f"{APPLICABLE}reward/{name}": float((~values.isnan()).sum()) for name, values in components.items()}
    return {**sums, **counts}


def component_means(sums: Mapping[str, float]) -> dict[str, float]:
    """`reward/NAME` from sums over all ranks: means over where it is applicable, left out where that is nowhere."""
    counts = {key.removeprefix(APPLICABLE): count for key, count in sums.items() if key.startswith(APPLICABLE)}
    return {name: sums[name] / count for name, count in counts.items() if count}


class Stopwatch:
    """Wall-clock seconds of an iteration by what they were spent on. `now` is what goes on, for other threads."""

    def __init__(self) -> None:
        self.now = "between"
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Time a block; blocks of one name add up."""
        start, self.now = time.perf_counter(), what
        try:
            yield
        finally:
            self.now = "between"
            self._seconds[what] = self._seconds.get(what, 0.0) + time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """`time/...` of each block, and of the whole since the last read; starts over."""
        now = time.perf_counter()
        seconds = {f"time/{what}": value for what, value in self._seconds.items()}
        seconds["time/iteration"] = now - self._start
        self._start, self._seconds = now, {}
        return seconds
