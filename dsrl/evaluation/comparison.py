"""Compare two evaluations, paired by question."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from rich.markup import escape
from rich.table import Table

from dsrl.bootstrap import Estimate, estimates
from dsrl.errors import ConfigError
from dsrl.evaluation.samples import read_samples
from dsrl.evaluation.statistics import RARE, SampledQuestion, ThoughtRatio, questions_of, ranges_of, thought_ratios
from dsrl.runs.lines import strict


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How two evaluations of one set compare."""

    questions: int
    """Questions that both hold."""
    unpaired: int
    """Questions that only one of them holds."""
    k: tuple[int, int]
    """Samples of each question, in the first and in the second."""
    first: Mapping[str, Estimate]
    """The first's metrics on the common questions. `maj` is left out if the two k differ: it grows with the votes."""
    second: Mapping[str, Estimate]
    """The second's metrics on the common questions."""
    difference: Mapping[str, Estimate]
    """Second less first. A question counts with its samples in both, so what makes it hard for both cancels."""
    thoughts: Mapping[str, ThoughtRatio]
    """Ratios of thoughts by class, second over first; empty where the two did not look for the same ones."""


Pair = tuple[SampledQuestion, SampledQuestion]
"""One question with its samples in the first evaluation, and in the second."""


class Paired(NamedTuple):
    """The questions of a set that both evaluations hold, and how many only one of them holds."""

    pairs: list[Pair]
    unpaired: int


def compare(first: Path, second: Path) -> dict[str, Comparison]:
    """Compare each set that both evaluations hold; the arguments are their folders.

    Raises ConfigError if they share no question, or one is unfinished or damaged.
    """
    alike = thoughts_of(first) == thoughts_of(second)
    return {
        name: compare_pairs(own.pairs, own.unpaired, thoughts=alike)
        for name, own in paired_questions(first, second).items()
    }


def paired_questions(first: Path, second: Path) -> dict[str, Paired]:
    """Pair the questions of two evaluations, by set, in the order of the first.

    Raises ConfigError if they share no question, or one is unfinished or damaged.
    """
    one, other = (_by_set(folder) for folder in (first, second))
    found = {}
    for name in one:
        if pairs := [(one[name][key], other[name][key]) for key in one[name] if key in other.get(name, {})]:
            found[name] = Paired(pairs, len(one[name]) + len(other[name]) - 2 * len(pairs))
    if not found:
        raise ConfigError(f"{first} and {second} share no question (set, prompt and ground truth must be equal)")
    return found


def compare_pairs(pairs: Sequence[Pair], unpaired: int = 0, *, thoughts: bool = False) -> Comparison:
    """Compare two evaluations on some questions, at least one, of the same numbers of samples each; their `thoughts`,
    too, where these were found in the same way.
    """
    k = len(pairs[0][0].samples), len(pairs[0][1].samples)
    columns: dict[str, dict[str, list[float]]] = {"first": {}, "second": {}, "difference": {}}
    for a, b in ((one.metrics(), other.metrics()) for one, other in pairs):
        for key in a:
            if key in b and (key != "maj" or k[0] == k[1]):
                for side, value in zip(columns, (a[key], b[key], b[key] - a[key]), strict=True):
                    columns[side].setdefault(key, []).append(value)
    sides = {
        side: estimates(values, within=ranges_of(values, differences=side == "difference"))
        for side, values in columns.items()
    }
    ratios = thought_ratios(pairs) if thoughts else {}
    return Comparison(questions=len(pairs), unpaired=unpaired, k=k, **sides, thoughts=ratios)


def main_metrics(found: Comparison) -> list[str]:
    """Choose the metrics that a table shows: avg, pass@j for the largest j, maj, length, truncated."""
    passes = [key for key in found.difference if key.startswith("pass@")]
    return [key for key in ("avg", *passes[-1:], "maj", "length", "truncated") if key in found.difference]


def thoughts_of(folder: Path) -> Any:
    """Read which thoughts an evaluation looked for: the spec of the part; None where it did not, or does not say."""
    path = folder / "config.yaml"
    config = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else None
    return config.get("thoughts") if isinstance(config, dict) else None


def comparison_values(found: Mapping[str, Comparison]) -> dict[str, Any]:
    """Give a comparison as plain values for JSON.

    For each set and metric these are both means, the difference, its standard error and its interval; for each class
    of thoughts both counts, and the ratios with theirs, or `too_rare`.
    """
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
            "thoughts": {key: _ratio_values(ratio) for key, ratio in own.thoughts.items()},
        }
        for name, own in found.items()
    }


def comparison_table(found: Mapping[str, Comparison], first: Path, second: Path) -> Table:
    """Draw a table with a row for each metric: both means, and the difference with its interval.

    A row is bold if the interval leaves out 0. `first` and `second` are the folders, for the title.
    """
    table = Table(title=escape(f"{second} less {first}"), title_justify="left")
    for column in ("set", "metric", "questions", "k", "first", "second", "difference", "95% interval"):
        table.add_column(column, justify="left" if column in ("set", "metric") else "right")
    for name, own in found.items():
        for key in main_metrics(own):
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


def thought_ratio_table(found: Mapping[str, Comparison], first: Path, second: Path) -> Table | None:
    """Draw a table with a row for each set and class of thoughts: both counts, and the ratios with their intervals.

    None where there are none to compare. A row is bold if the interval of thoughts an answer leaves out 1.
    """
    table = Table(title=escape(f"thoughts, {second} over {first}"), title_justify="left")
    for column in ("set", "class", "first", "second", "an answer", "in 1,000 tokens"):
        table.add_column(column, justify="left" if column in ("set", "class") else "right")
    for name, own in found.items():
        for class_name, ratio in own.thoughts.items():
            raw, by_tokens = ratio.per_answer, ratio.per_1000_tokens
            cells = (
                [f"too rare (under {RARE})", ""]
                if raw is None or by_tokens is None
                else [_times(raw), _times(by_tokens)]
            )
            table.add_row(
                escape(name),
                escape(class_name),
                *map(str, ratio.thoughts),
                *cells,
                style="bold" if raw is not None and (raw.low > 1 or raw.high < 1) else "",
            )
    return table if table.row_count else None


def _times(ratio: Estimate) -> str:
    """A ratio with its interval."""
    high = "∞" if math.isinf(ratio.high) else f"{ratio.high:.2f}"
    interval = "" if math.isnan(ratio.low) else f" ({ratio.low:.2f} to {high})"
    return f"{ratio.value:.2f}x{interval}"


def _ratio_values(ratio: ThoughtRatio) -> dict[str, Any]:
    first, second = ratio.thoughts
    values: dict[str, Any] = {"first": first, "second": second, "too_rare": ratio.per_answer is None}
    for key in ("per_answer", "per_1000_tokens"):
        estimate = getattr(ratio, key)
        if estimate is not None:
            values[key] = estimate.value
            if not math.isnan(estimate.stderr):
                values |= strict({f"{key}_stderr": estimate.stderr, f"{key}_ci95": [estimate.low, estimate.high]})
    return values


def _by_set(folder: Path) -> dict[str, dict[tuple[str, str, int], SampledQuestion]]:
    """Group the questions by set, and there by prompt, ground truth and how often these were there before.

    So questions that are equal pair in their order. Raises ConfigError if the evaluation is not finished, or some of
    its samples are gone.
    """
    found = questions_of(read_samples(folder))
    if not (folder / "results.json").is_file():
        raise ConfigError(f"{folder}: the evaluation is unfinished; resume={folder} goes on with it")
    seen: Counter[tuple[str, str, str]] = Counter()
    sets: dict[str, dict[tuple[str, str, int], SampledQuestion]] = {}
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
