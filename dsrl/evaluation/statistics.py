"""Group the samples of an evaluation by question, and compute the metrics of each; K samples of a question."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsrl.bootstrap import RESAMPLES, Estimate, ratio_estimates, resampled_means
from dsrl.bounded_mean import CHANGE, CONFIDENCE, SHARE, Range
from dsrl.loop.accuracy import pass_at
from dsrl.thoughts import ThoughtTotals, totals_of
from dsrl.types import CORRECT_THRESHOLD

RARE = 20
"""A ratio of fewer thoughts than these, on either side, is not given."""


@dataclass(kw_only=True, slots=True)
class SampledQuestion:
    """A question with its K samples, as samples.jsonl holds them."""

    set: str
    data_source: str
    prompt: str
    ground_truth: str
    samples: list[Mapping[str, Any]]

    @property
    def key(self) -> tuple[str, str, str]:
        """Set, prompt and ground truth: the same question has them in another evaluation."""
        return self.set, self.prompt, self.ground_truth

    @property
    def right(self) -> int:
        """How many of its samples are right: those with a reward above 0.5."""
        return sum(sample["reward"] > CORRECT_THRESHOLD for sample in self.judged)

    @property
    def judged(self) -> list[Mapping[str, Any]]:
        """Its samples that have a reward: where the verifier does not apply there is none."""
        return [sample for sample in self.samples if sample["reward"] is not None]

    def metrics(self) -> dict[str, float]:
        """Compute avg, pass@j for j = 1 to K, maj, length (in tokens), truncated, and `reward/NAME`.

        `reward/NAME` is the mean of a component of the reward, over the samples that have it. There is no maj where the
        verifier extracts no answers. avg, pass@j and maj are of the samples that have a reward, and K is their number.
        """
        rewards = [float(sample["reward"]) for sample in self.judged]
        answers = [sample["extracted_answer"] for sample in self.judged]
        right, count = self.right, len(rewards)
        components: dict[str, list[float]] = {}
        for sample in self.samples:
            for name, value in sample["components"].items():
                components.setdefault(name, []).append(value)
        return {
            **({"avg": sum(rewards) / count} if count else {}),
            **{f"pass@{j}": pass_at(j, count, right) for j in range(1, count + 1)},
            **({} if answers == [None] * count else {"maj": majority([answer or "" for answer in answers], rewards)}),
            "length": sum(sample["length"] for sample in self.samples) / len(self.samples),
            "truncated": sum(sample["finish_reason"] == "length" for sample in self.samples) / len(self.samples),
            **{f"reward/{name}": sum(values) / len(values) for name, values in components.items()},
        }

    def thoughts(self) -> dict[str, ThoughtTotals]:
        """Sum up the thoughts in its samples, by class; nothing where they were not looked for in each of them."""
        spans = [sample["thoughts"] for sample in self.samples if isinstance(sample.get("thoughts"), dict)]
        if len(spans) < len(self.samples):
            return {}
        rewards = [sample["reward"] for sample in self.samples]
        return totals_of(spans, rewards, [sample["length"] for sample in self.samples])


def questions_of(samples: Sequence[Mapping[str, Any]]) -> list[SampledQuestion]:
    """Group samples by question, in order."""
    found: dict[tuple[str, int], SampledQuestion] = {}
    for sample in samples:
        key = sample["set"], sample["question"]
        if key not in found:
            found[key] = SampledQuestion(
                set=sample["set"],
                data_source=sample["data_source"],
                prompt=sample["prompt"],
                ground_truth=sample["ground_truth"],
                samples=[],
            )
        found[key].samples.append(sample)
    return list(found.values())


def ranges_of(names: Iterable[str], *, differences: bool = False) -> dict[str, Range]:
    """Say between which ends metrics of a question, or differences of two, lie; nothing of lengths.

    Rewards count as shares. Where they go further, so does their range, as far as they go.
    """
    return {name: CHANGE if differences else SHARE for name in names if name != "length"}


def majority(answers: Sequence[str], rewards: Sequence[float]) -> float:
    """Compute maj@K: the mean reward of the answer that is given most often.

    Answers are equal if they are so letter for letter, without whitespace. If several are given equally often, the
    result is the mean of theirs, as if one were chosen at random. A sample without an answer has no vote; if none has
    one, the result is 0.

    Args:
        answers: K extracted answers.
        rewards: K rewards.
    """
    votes: dict[str, list[float]] = {}
    for answer, reward in zip(answers, rewards, strict=True):
        if ballot := "".join(answer.split()):
            votes.setdefault(ballot, []).append(reward)
    most = max(map(len, votes.values()), default=0)
    winners = [sum(given) / len(given) for given in votes.values() if len(given) == most]
    return sum(winners) / len(winners) if winners else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ThoughtRatio:
    """How many more thoughts of a class there are in a second evaluation than in a first.

    The ratios are None where either has fewer than 20 such thoughts, too few to say.
    """

    thoughts: tuple[int, int]
    """Thoughts in the first and in the second."""
    per_answer: Estimate | None
    """Thoughts an answer, second over first."""
    per_1000_tokens: Estimate | None
    """Thoughts a token, second over first: what longer answers alone bring is taken out."""


def thought_ratios(pairs: Sequence[tuple[SampledQuestion, SampledQuestion]]) -> dict[str, ThoughtRatio]:
    """Compare thoughts, by class, of questions with their samples in two evaluations.

    Intervals are by bootstrap over questions, each with its samples in both. A resample without a thought in the first
    has an infinite ratio, or one of 1 where the second has none, either: an interval may have no upper end.
    """
    totals = [(first.thoughts(), second.thoughts()) for first, second in pairs]
    classes = [name for name in totals[0][0] if all(name in one and name in two for one, two in totals)]
    return {name: _thought_ratio([(one[name], two[name]) for one, two in totals]) for name in classes}


def _thought_ratio(totals: Sequence[tuple[ThoughtTotals, ThoughtTotals]]) -> ThoughtRatio:
    table = np.array([(*one[:3], *two[:3]) for one, two in totals], dtype=np.float64)
    first, second = int(table[:, 0].sum()), int(table[:, 3].sum())
    if min(first, second) < RARE:
        return ThoughtRatio(thoughts=(first, second), per_answer=None, per_1000_tokens=None)
    means = resampled_means(table, RESAMPLES) if len(table) > 1 else np.full((1, 6), np.nan)
    tail, found = (1 - CONFIDENCE) / 2, []
    for below in (1, 2):
        with np.errstate(divide="ignore", invalid="ignore"):
            value, drawn = (
                own[..., 3] / own[..., 3 + below] / (own[..., 0] / own[..., below]) for own in (table.sum(0), means)
            )
        drawn[(means[:, 0] == 0) & (means[:, 3] == 0)] = 1.0
        low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
        stderr = float(drawn.std()) if not np.isinf(drawn).any() else math.inf
        found.append(Estimate(value=float(value), stderr=stderr, low=float(low), high=float(high)))
    return ThoughtRatio(thoughts=(first, second), per_answer=found[0], per_1000_tokens=found[1])


def thought_estimates(questions: Sequence[SampledQuestion]) -> dict[str, Estimate]:
    """Estimate `thoughts/CLASS/per_answer` and the others of `ThoughtTotals.ratios`, of classes that all have."""
    totals = [question.thoughts() for question in questions]
    classes = [name for name in totals[0] if all(name in own for own in totals)] if totals else []
    ratios = {name: [own[name].ratios() for own in totals] for name in classes}
    return ratio_estimates(
        {
            f"thoughts/{name}/{key}": ([own[key][0] for own in every], [own[key][1] for own in every])
            for name, every in ratios.items()
            for key in every[0]
        },
        shares=[f"thoughts/{name}/{key}" for name in ratios for key in ("share", "right_with", "right_without")],
    )
