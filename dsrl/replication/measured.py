"""What a run measured, question by question: from validations.jsonl of its folder.

Letters: S seeds, V validations, Q questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dsrl.bounded_mean import Array
from dsrl.errors import DSRLError
from dsrl.reports.curves import phases_of
from dsrl.runs.lines import Line, read_lines

Key = TypeVar("Key")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The validations of a run.

    Args:
        done: iterations before each of the V validations.
        accuracy: [V, Q], the mean reward of the k answers to each question; NaN where none has one.
        tokens: [V, Q], of these k answers together.
        thoughts: [V, Q] by class, thoughts in these k answers.
        k: answers to each question.
        responses: that an iteration samples.
        phases: the iteration in which each phase began, of those after the first.
        metrics: the lines of the iterations.
    """

    done: tuple[int, ...]
    accuracy: Array
    tokens: Array
    thoughts: Mapping[str, Array]
    k: int
    responses: int
    phases: tuple[int, ...]
    metrics: Sequence[Line]

    def at(self, done: int) -> int:
        """Find the validation after that many iterations. Raises DSRLError where there was none."""
        if done not in self.done:
            raise DSRLError(f"there was no validation after {done} iterations, only after {list(self.done)}")
        return self.done.index(done)

    @property
    def area(self) -> Array:
        """The mean accuracy of each question [Q] along the run: the area under its curve over its length."""
        if len(self.done) == 1:
            only: Array = self.accuracy[0]
            return only
        x = np.array(self.done, dtype=np.float64)
        widths = np.diff(x)[:, None]
        area: Array = (widths * (self.accuracy[1:] + self.accuracy[:-1]) / 2).sum(0) / (x[-1] - x[0])
        return area

    def samples_to(self, level: float) -> float | None:
        """Count the responses sampled until the mean accuracy reaches a level, between validations by a straight line;
        None where it never does.
        """
        means = self.accuracy.mean(1)
        for number, mean in enumerate(means):
            if mean >= level:
                if number == 0:
                    return self.done[0] * float(self.responses)
                share = (level - means[number - 1]) / (mean - means[number - 1])
                before, after = self.done[number - 1 : number + 1]
                return float((before + share * (after - before)) * self.responses)
        return None

    def first_drop(self, by: float = 0.05) -> int | None:
        """Count the iterations until accuracy is `by` below its best before; None where it never is."""
        means = self.accuracy.mean(1)
        best = np.maximum.accumulate(means)
        fallen = np.nonzero(means < best - by)[0]
        return self.done[int(fallen[0])] if len(fallen) else None

    def only(self, questions: NDArray[np.bool_]) -> Curve:
        """Keep the questions that [Q] says."""
        return replace(
            self,
            accuracy=self.accuracy[:, questions],
            tokens=self.tokens[:, questions],
            thoughts={kind: counts[:, questions] for kind, counts in self.thoughts.items()},
        )

    def mean_metric(self, name: str, first: int = 0) -> float:
        """Average a metric over the iterations from `first` on; NaN where none has it."""
        values = [line[name] for line in self.metrics if line["iteration"] >= first and line.get(name) is not None]
        return float(np.mean(values)) if values else float("nan")


def read_curve(folder: Path) -> Curve:
    """Read the validations of a finished run, of its first validation set. Raises DSRLError where it has none."""
    lines = read_lines(folder / "validations.jsonl")
    if not lines:
        raise DSRLError(f"{folder}: no validations.jsonl, so that nothing is known of single questions")
    name = lines[0]["set"]
    own = sorted((line for line in lines if line["set"] == name), key=lambda line: line["iterations_done"])
    metrics = [line for line in read_lines(folder / "metrics.jsonl") if "reward/mean" in line]
    return Curve(
        done=tuple(line["iterations_done"] for line in own),
        accuracy=np.array([line["reward"] for line in own], dtype=np.float64),
        tokens=np.array([line["tokens"] for line in own], dtype=np.float64),
        thoughts={
            kind: np.array([line["thoughts"][kind] for line in own], dtype=np.float64) for kind in own[0]["thoughts"]
        },
        k=own[0]["k"],
        responses=_responses(folder),
        phases=tuple(span.first for span in phases_of(metrics)[1:]),
        metrics=metrics,
    )


def answered_in_all(curves: Mapping[Key, Sequence[Curve]]) -> dict[Key, list[Curve]]:
    """Leave out the questions whose answers all lack a reward in some validation of some run, so that every number is
    of the same questions. Raises DSRLError where none is left.
    """
    every = [curve for own in curves.values() for curve in own]
    answered = np.logical_and.reduce([np.isfinite(curve.accuracy).all(0) for curve in every])
    if not answered.any():
        raise DSRLError(
            f"none of the {len(answered)} held-out questions has a reward in every validation of every run: the "
            "verifier has None for the others"
        )
    return {key: [curve.only(answered) for curve in own] for key, own in curves.items()}


def _responses(folder: Path) -> int:
    from omegaconf import OmegaConf

    config: Any = OmegaConf.load(folder / "config.yaml")
    return int(config.prompts_per_iteration) * int(config.responses_per_prompt)
