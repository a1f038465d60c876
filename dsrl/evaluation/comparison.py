"""Two evaluations, paired by question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from dsrl.errors import ConfigError
from dsrl.evaluation.samples import read_samples
from dsrl.evaluation.statistics import Estimate, Question, estimates, questions_of


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of one set: how many questions both hold, how many one alone, and of each metric the means and the difference.

    The interval of the difference, second less first, is by bootstrap over questions with both answers to each: what
    makes a question hard for both cancels.
    """

    questions: int
    unpaired: int
    first: Mapping[str, Estimate]
    second: Mapping[str, Estimate]
    difference: Mapping[str, Estimate]


def compare(first: Path, second: Path) -> dict[str, Comparison]:
    """The comparison of each set that both evaluations hold. Raises ConfigError where they share no question."""
    one, other = (_by_set(folder) for folder in (first, second))
    found = {}
    for name in one:
        pairs = [(one[name][key], other[name][key]) for key in one[name] if key in other.get(name, {})]
        if not pairs:
            continue
        metrics = [(a.metrics(), b.metrics()) for a, b in pairs]
        shared = [key for key in metrics[0][0] if all(key in a and key in b for a, b in metrics)]
        columns = {
            "first": {key: [a[key] for a, _ in metrics] for key in shared},
            "second": {key: [b[key] for _, b in metrics] for key in shared},
            "difference": {key: [b[key] - a[key] for a, b in metrics] for key in shared},
        }
        found[name] = Comparison(
            questions=len(pairs),
            unpaired=len(one[name]) + len(other[name]) - 2 * len(pairs),
            **{side: estimates(values) for side, values in columns.items()},
        )
    if not found:
        raise ConfigError(f"{first} and {second} share no question (set, prompt and ground truth must be equal)")
    return found


def table_of(found: Mapping[str, Comparison], first: Path, second: Path) -> Table:
    """A row a metric: both means, the difference with its interval; bold where the interval leaves out 0."""
    table = Table(title=f"{second} less {first}", title_justify="left")
    for column in ("set", "metric", "questions", "first", "second", "difference", "95% interval"):
        table.add_column(column, justify="left" if column in ("set", "metric") else "right")
    for name, own in found.items():
        passes = [key for key in own.difference if key.startswith("pass@")]
        for key in dict.fromkeys(("avg", passes[-1], "maj", "length", "truncated")):
            change = own.difference[key]
            form = "{:+.1f}" if key == "length" else "{:+.3f}"
            style = "bold" if change.low > 0 or change.high < 0 else ""
            table.add_row(
                name,
                key,
                str(own.questions) + (f" ({own.unpaired} unpaired)" if own.unpaired else ""),
                form.format(own.first[key].value).lstrip("+"),
                form.format(own.second[key].value).lstrip("+"),
                form.format(change.value),
                f"{form.format(change.low)} to {form.format(change.high)}",
                style=style,
            )
    return table


def _by_set(folder: Path) -> dict[str, dict[tuple[str, str, str], Question]]:
    sets: dict[str, dict[tuple[str, str, str], Question]] = {}
    for question in questions_of(read_samples(folder)):
        sets.setdefault(question.set, {})[question.key] = question
    return sets
