"""From thoughts to numbers: how many there are, in how many answers, and whether those are right more often."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from dsrl.errors import DSRLError
from dsrl.thoughts.thoughts import Thoughts
from dsrl.types import CORRECT_THRESHOLD, Metric, Metrics

Spans = dict[str, list[int]]
"""The thoughts of a response by class: begin, end, begin, end, ..., in characters. Every class is there."""


def spans_of(thoughts: Thoughts, texts: Sequence[str]) -> list[Spans]:
    """Find the thoughts of responses, by class. Raises DSRLError for what is no stretch of its text, or of no class."""
    kind, classes = type(thoughts).__qualname__, thoughts.class_names
    every = thoughts.split_all(texts)
    if len(every) != len(texts):
        raise DSRLError(f"thoughts: {kind}.split_all gave the thoughts of {len(every)} responses, not of {len(texts)}")
    spans: list[Spans] = []
    for text, found in zip(texts, every, strict=True):
        own: Spans = {name: [] for name in classes}
        edges = [edge for start, end, _ in found for edge in (start, end)]
        if any(later < earlier for earlier, later in pairwise([0, *edges, len(text)])):
            raise DSRLError(
                f"thoughts: {kind} found {found[:5]} in a response of {len(text)} characters; thoughts must be in "
                f"order, without overlap, and within the text"
            )
        for start, end, name in found:
            if name not in own:
                raise DSRLError(f"thoughts: {kind} found a thought of class '{name}'; its classes are {classes}")
            own[name] += (start, end)
        spans.append(own)
    return spans


class ThoughtTotals(NamedTuple):
    """Sums over answers, for one class of thoughts.

    Args:
        thoughts: thoughts of the class.
        answers: all answers.
        tokens: their tokens.
        right: answers that are right.
        answers_with: answers with any thought of the class.
        right_with: those of them that are right.
        judged: answers that are right or wrong, which those without a reward are not.
        judged_with: those of them with any thought of the class.
    """

    thoughts: float
    answers: float
    tokens: float
    right: float
    answers_with: float
    right_with: float
    judged: float
    judged_with: float

    def ratios(self) -> dict[str, tuple[float, float]]:
        """Give numerator and denominator of each number; what is 0 of 0 is not known.

        `per_answer` and `per_1000_tokens` count thoughts, `share` is that of answers with any, `right_with` is
        P(right | any) and `right_without` is P(right | none).
        """
        return {
            "per_answer": (self.thoughts, self.answers),
            "per_1000_tokens": (1000 * self.thoughts, self.tokens),
            "share": (self.answers_with, self.answers),
            "right_with": (self.right_with, self.judged_with),
            "right_without": (self.right - self.right_with, self.judged - self.judged_with),
        }


def totals_of(
    spans: Sequence[Mapping[str, Sequence[int]]], rewards: Sequence[float | None], lengths: Sequence[int]
) -> dict[str, ThoughtTotals]:
    """Sum up N answers, by class of thoughts; nothing without answers.

    Args:
        spans: the thoughts of each answer, as `spans_of` gives them.
        rewards: of each; None or NaN where it has none.
        lengths: the tokens of each.
    """
    given = [math.nan if reward is None else reward for reward in rewards]
    right, judged = [reward > CORRECT_THRESHOLD for reward in given], [not math.isnan(reward) for reward in given]
    return {
        name: ThoughtTotals(
            thoughts=sum(len(own.get(name, ())) // 2 for own in spans),
            answers=len(spans),
            tokens=sum(lengths),
            right=sum(right),
            answers_with=sum(bool(own.get(name)) for own in spans),
            right_with=sum(bool(own.get(name)) and good for own, good in zip(spans, right, strict=True)),
            judged=sum(judged),
            judged_with=sum(bool(own.get(name)) and known for own, known in zip(spans, judged, strict=True)),
        )
        for name in (spans[0] if spans else ())
    }


def thought_metrics(spans: Sequence[Spans], rewards: Tensor, lengths: Tensor) -> Metrics:
    """Measure the thoughts of N = B * G responses: `thoughts/CLASS/per_answer`, and others of `ThoughtTotals.ratios`.

    Args:
        spans: the thoughts of each response.
        rewards: [B, G], NaN where a response has none.
        lengths: [N] tokens.
    """
    return {
        f"thoughts/{name}/{key}": Metric(*ratio)
        for name, totals in totals_of(spans, rewards.reshape(-1).tolist(), lengths.tolist()).items()
        for key, ratio in totals.ratios().items()
    }
