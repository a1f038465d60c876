"""Evaluations against the first of them, question by question: differences, and the questions that changed sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from dsrl.errors import ConfigError
from dsrl.reports.reading import RunRecord

if TYPE_CHECKING:
    from dsrl.evaluation.comparison import Pair
    from dsrl.evaluation.statistics import SampledQuestion

CHANGED = 50
"""Questions that changed to one side, at most, that a page shows; the greatest changes come first."""
RESPONSES = 2
"""Responses of each evaluation to such a question, at most."""

Place = tuple[int, Any, Any, Any]
"""Which response of which run: the run's number, set, question, and number of the sample."""


@dataclass(frozen=True, kw_only=True)
class ComparedEvaluations:
    """Two evaluations, `first` and `second` by their numbers among the runs.

    `rows` have `measure`, `first`, `second`, `difference`, `low`, `high` (None without an interval) and `questions`.
    `gained` are questions that the second answers rightly more often than not and the first does not; `lost` the other
    way round; `changed` counts both. Each has `set`, `prompt`, `truth`, the `shares` of right answers, and `places` of
    some responses of each.
    """

    first: int
    second: int
    rows: list[dict[str, Any]]
    questions: int
    changed: tuple[int, int]
    gained: list[dict[str, Any]]
    lost: list[dict[str, Any]]

    @property
    def places(self) -> set[Place]:
        """The responses that are shown of questions that changed sides."""
        return set(chain.from_iterable(chain.from_iterable(own["places"] for own in (*self.gained, *self.lost))))


def compared_evaluations(runs: Sequence[RunRecord], notes: list[str]) -> list[ComparedEvaluations]:
    """Compare every evaluation among the runs with the first one; notes say which cannot be compared, and why."""
    numbers = [number for number, run in enumerate(runs) if run.is_evaluation]
    if len(numbers) < 2:
        return []
    from dsrl.evaluation.comparison import paired_questions  # loads torch, which a report of runs does without

    found = []
    for second in numbers[1:]:
        try:
            sets = paired_questions(runs[numbers[0]].folder, runs[second].folder)
        except (ConfigError, OSError, ArithmeticError) as error:
            notes.append(f"not compared question by question: {error}")
            continue
        pairs = {name: own.pairs for name, own in sets.items()}
        every = list(chain.from_iterable(pairs.values()))
        gained, lost = ([pair for pair in every if _side(pair) == side] for side in (1, -1))
        for what, own in (("gained", gained), ("lost", lost)):
            if len(own) > CHANGED:
                notes.append(
                    f"of {len(own)} questions that were {what}, the {CHANGED} greatest changes are on this page"
                )
        compared = ComparedEvaluations(
            first=numbers[0],
            second=second,
            rows=[*_rows(pairs), *_rows(_by_source(every, pairs))],
            questions=len(every),
            changed=(len(gained), len(lost)),
            gained=[_changed(pair, numbers[0], second) for pair in _greatest(gained)],
            lost=[_changed(pair, numbers[0], second) for pair in _greatest(lost)],
        )
        found.append(compared)
    return found


def _rows(groups: dict[str, list[Pair]]) -> list[dict[str, Any]]:
    from dsrl.evaluation.comparison import compare_pairs, main_metrics

    rows = []
    for name, pairs in groups.items():
        own = compare_pairs(pairs)
        for key in main_metrics(own):
            change = own.difference[key]
            certain = change.low == change.low  # NaN for a single question
            rows.append(
                {
                    "measure": f"{name}: {key}",
                    "first": own.first[key].value,
                    "second": own.second[key].value,
                    "difference": change.value,
                    "low": change.low if certain else None,
                    "high": change.high if certain else None,
                    "questions": own.questions,
                }
            )
    return rows


def _by_source(pairs: Sequence[Pair], sets: dict[str, list[Pair]]) -> dict[str, list[Pair]]:
    """The pairs by data source; none where the sources are the sets."""
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        found.setdefault(f"source {pair[0].data_source}", []).append(pair)
    return {} if {f"source {name}" for name in sets} == set(found) else found


def _share(question: SampledQuestion) -> float:
    return question.right / max(1, len(question.judged))


def _side(pair: Pair) -> int:
    """1 where the second answers rightly more often than not and the first does not, -1 the other way round, else 0."""
    one, other = (_share(question) > 0.5 for question in pair)
    return int(other) - int(one)


def _greatest(pairs: Sequence[Pair]) -> list[Pair]:
    return sorted(pairs, key=lambda pair: -abs(_share(pair[1]) - _share(pair[0])))[:CHANGED]


def _changed(pair: Pair, first: int, second: int) -> dict[str, Any]:
    """A question, and of each evaluation the responses that are of the side on which most of its responses are."""
    places = []
    for run, question in zip((first, second), pair, strict=True):
        mostly = _share(question) > 0.5
        typical = [sample for sample in question.judged if (sample["reward"] > 0.5) == mostly][:RESPONSES]
        places.append([(run, question.set, sample["question"], sample["sample"]) for sample in typical])
    one = pair[0]
    shares = [[question.right, len(question.judged)] for question in pair]
    return {"set": one.set, "prompt": one.prompt, "truth": one.ground_truth, "shares": shares, "places": places}
