"""What samples say of each question, and how sure the mean over questions is.

Letters: Q questions, K samples of each, M metrics, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsrl.loop.accuracy import pass_at
from dsrl.types import CORRECT_THRESHOLD

Array = NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(kw_only=True, slots=True)
class Question:
    """A question with its K samples, as they stand in samples.jsonl."""

    set: str
    data_source: str
    prompt: str
    ground_truth: str
    samples: list[Mapping[str, Any]]

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same question in another evaluation."""
        return self.set, self.prompt, self.ground_truth

    @property
    def right(self) -> int:
        """How many of its samples are right."""
        return sum(sample["reward"] > CORRECT_THRESHOLD for sample in self.samples)

    def metrics(self) -> dict[str, float]:
        """avg, pass@j for j to K, maj, length (tokens), truncated, and the mean of each component of the reward, over
        the samples that have it.
        """
        rewards = [float(sample["reward"]) for sample in self.samples]
        right, count = self.right, len(rewards)
        components: dict[str, list[float]] = {}
        for sample in self.samples:
            for name, value in sample["components"].items():
                components.setdefault(name, []).append(value)
        return {
            "avg": sum(rewards) / count,
            **{f"pass@{j}": pass_at(j, count, right) for j in range(1, count + 1)},
            "maj": majority([str(sample["extracted_answer"]) for sample in self.samples], rewards),
            "length": sum(sample["length"] for sample in self.samples) / count,
            "truncated": sum(sample["finish_reason"] == "length" for sample in self.samples) / count,
            **{f"reward/{name}": sum(values) / len(values) for name, values in components.items()},
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean over questions, its standard error, and its confidence interval, both by bootstrap over questions; NaN of
    a single question, which says nothing of others.
    """

    value: float
    stderr: float
    low: float
    high: float


def questions_of(samples: Sequence[Mapping[str, Any]]) -> list[Question]:
    """Samples by question, in order."""
    found: dict[tuple[str, int], Question] = {}
    for sample in samples:
        key = sample["set"], sample["question"]
        if key not in found:
            found[key] = Question(
                set=sample["set"],
                data_source=sample["data_source"],
                prompt=sample["prompt"],
                ground_truth=sample["ground_truth"],
                samples=[],
            )
        found[key].samples.append(sample)
    return list(found.values())


def majority(answers: Sequence[str], rewards: Sequence[float]) -> float:
    """The reward of the answer given most often, answers being equal letter for letter without whitespace.

    Among answers given equally often, one is chosen at random: their mean. A sample without an answer has no vote; with
    none at all the reward is 0.
    """
    votes: dict[str, list[float]] = {}
    for answer, reward in zip(answers, rewards, strict=True):
        if ballot := "".join(answer.split()):
            votes.setdefault(ballot, []).append(reward)
    most = max(map(len, votes.values()), default=0)
    winners = [sum(given) / len(given) for given in votes.values() if len(given) == most]
    return sum(winners) / len(winners) if winners else 0.0


def estimates(values: Mapping[str, Sequence[float]], *, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """The mean of each metric over the questions that have it: sequences of values, M of Q each or of others."""
    found: dict[str, Estimate] = {}
    for count in {len(own) for own in values.values()}:
        names = [name for name, own in values.items() if len(own) == count]
        table = np.array([values[name] for name in names], dtype=np.float64).T
        means = resampled_means(table, resamples) if count > 1 else np.full((1, len(names)), np.nan)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(means, [tail, 1 - tail], axis=0)
        columns = zip(names, table.mean(0), means.std(0), low, high, strict=True)
        found |= {
            name: Estimate(value=float(value), stderr=float(error), low=float(least), high=float(most))
            for name, value, error, least, most in columns
        }
    return {name: found[name] for name in values}


def resampled_means(table: Array, resamples: int, seed: int = 0) -> Array:
    """Means [R, M] of a table [Q, M] over Q questions drawn with replacement, R times: the percentile bootstrap.

    A question comes with all of its samples, so the spread within it counts, too.
    """
    generator = np.random.default_rng(seed)
    questions = len(table)
    means = np.empty((resamples, table.shape[1]))
    for index in range(resamples):
        means[index] = table[generator.integers(questions, size=questions)].mean(0)
    return means
