"""Two evaluations, paired by question."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from dsrl.errors import ConfigError
from dsrl.evaluation.samples import read_samples
from dsrl.evaluation.statistics import Estimate, Question, estimates, questions_of


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of one set: how many questions both hold, how many one alone, how many answers each has to a question, and of
    each metric the means and the difference. maj is left out where those numbers differ: more votes are a better vote.

    The interval of the difference, second less first, is by bootstrap over questions with both answers to each: what
    makes a question hard for both cancels.
    """

    questions: int
    unpaired: int
    k: tuple[int, int]
    first: Mapping[str, Estimate]
    second: Mapping[str, Estimate]
    difference: Mapping[str, Estimate]


def compare(first: Path, second: Path) -> dict[str, Comparison]:
    """The comparison of each set that both evaluations hold.

    Raises ConfigError where they share no question, or one is unfinished or damaged.
    """
    one, other = (_by_set(folder) for folder in (first, second))
    found = {}
    for name in one:
        pairs = [(one[name][key], other[name][key]) for key in one[name] if key in other.get(name, {})]
        if not pairs:
            continue
        k = len(pairs[0][0].samples), len(pairs[0][1].samples)
        metrics = [(a.metrics(), b.metrics()) for a, b in pairs]
        columns: dict[str, dict[str, list[float]]] = {"first": {}, "second": {}, "difference": {}}
        for a, b in metrics:
            for key in a:
                if key in b and (key != "maj" or k[0] == k[1]):
                    for side, value in zip(columns, (a[key], b[key], b[key] - a[key]), strict=True):
                        columns[side].setdefault(key, []).append(value)
        found[name] = Comparison(
            questions=len(pairs),
            unpaired=len(one[name]) + len(other[name]) - 2 * len(pairs),
            k=k,
            **{side: estimates(values) for side, values in columns.items()},
        )
    if not found:
        raise ConfigError(f"{first} and {second} share no question (set, prompt and ground truth must be equal)")
    return found


def plain(found: Mapping[str, Comparison]) -> dict[str, Any]:
    """As JSON holds it: of each set and metric the means, the difference, its standard error and its interval."""
    return {
        name: {
            "questions": own.questions,
            "unpaired": own.unpaired,
            "k": list(own.k),
            "metrics": {
                key: {"first": own.first[key].value, "second": own.second[key].value, "difference": change.value}
                | ({} if math.isnan(change.stderr) else {"stderr": change.stderr, "ci95": [change.low, change.high]})
                for key, change in own.difference.items()
            },
        }
        for name, own in found.items()
    }


def table_of(found: Mapping[str, Comparison], first: Path, second: Path) -> Table:
    """A row a metric: both means, the difference with its interval; bold where the interval leaves out 0."""
    table = Table(title=escape(f"{second} less {first}"), title_justify="left")
    for column in ("set", "metric", "questions", "k", "first", "second", "difference", "95% interval"):
        table.add_column(column, justify="left" if column in ("set", "metric") else "right")
    for name, own in found.items():
        passes = [key for key in own.difference if key.startswith("pass@")]
        for key in filter(own.difference.__contains__, ("avg", passes[-1], "maj", "length", "truncated")):
            change = own.difference[key]
            form = "{:+.1f}" if key == "length" else "{:+.3f}"
            table.add_row(
                escape(name),
                key,
                str(own.questions) + (f" ({own.unpaired} unpaired)" if own.unpaired else ""),
                ", ".join(map(str, dict.fromkeys(own.k))),
                form.format(own.first[key].value).lstrip("+"),
                form.format(own.second[key].value).lstrip("+"),
                form.format(change.value),
                "" if math.isnan(change.low) else f"{form.format(change.low)} to {form.format(change.high)}",
                style="bold" if change.low > 0 or change.high < 0 else "",
            )
    return table


def _by_set(folder: Path) -> dict[str, dict[tuple[str, str, int], Question]]:
    """Questions by set, and there by prompt, ground truth, and how often these stood before: equal ones pair in order.

    Raises ConfigError where the evaluation is not finished, or some of its samples are gone.
    """
    found = questions_of(read_samples(folder))
    if not (folder / "results.json").is_file():
        raise ConfigError(f"{folder}: the evaluation is unfinished; resume={folder} goes on with it")
    seen: Counter[tuple[str, str, str]] = Counter()
    sets: dict[str, dict[tuple[str, str, int], Question]] = {}
    for question in found:
        own = sets.setdefault(question.set, {})
        k = len(next(iter(own.values()), question).samples)
        if len(question.samples) != k:
            raise ConfigError(
                f"{folder}/samples.jsonl: a question of {question.set} has {len(question.samples)} samples, another "
                f"{k}: some are gone; evaluate anew. It begins {question.prompt[:80]!r}"
            )
        own[question.prompt, question.ground_truth, seen[question.key]] = question
        seen[question.key] += 1
    return sets
