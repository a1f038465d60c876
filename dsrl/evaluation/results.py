"""Summarise an evaluation: its numbers as JSON, as a table, as one line."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from rich.markup import escape
from rich.table import Table

from dsrl.bootstrap import estimates
from dsrl.evaluation.statistics import SampledQuestion, ranges_of, thought_estimates

CAPTION = "± to the farther end of the 95% interval over questions; right 0..k: questions with that many right answers"
BARS = "·▁▂▃▄▅▆▇█"


def summarise(questions: Sequence[SampledQuestion]) -> dict[str, Any]:
    """Compute the numbers of each set, `results`, and of each data source, `sources`.

    `sources` is empty if the data sources are the sets.
    """
    sets = {name: _numbers(own) for name, own in _grouped(questions, "set").items()}
    by_source = _grouped(questions, "data_source")
    sources = {} if set(by_source) == set(sets) else {name: _numbers(own) for name, own in by_source.items()}
    return {"results": sets, "sources": sources}


def results_table(groups: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """Draw a table with a row for each set or source; behind each number, how far its interval reaches.

    `groups` is `results` or `sources` of `summarise`.
    """
    k = max(int(group["k"]) for group in groups.values())
    shown = [f"pass@{j}" for j in _some_up_to(k)]
    table = Table(title=title, title_justify="left", caption=CAPTION, caption_justify="left")
    table.add_column("")
    for column in ("questions", "k", "avg@k", *shown, "maj@k", "length", "cut off", "right 0..k"):
        table.add_column(column, justify="right")
    for name, group in groups.items():
        own = int(group["k"])
        table.add_row(
            escape(name),
            str(group["questions"]),
            str(own),
            _cell(group, f"avg@{own}"),
            *(_cell(group, key) for key in shown),
            _cell(group, f"maj@{own}"),
            _cell(group, "length", "{:.0f}"),
            f"{group['truncated']:.1%}",
            _bars(group["right"]),
        )
    return table


def thoughts_table(groups: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Draw a table with a row for each set or source and class of thoughts; None where none were looked for."""
    table = Table(title="thoughts", title_justify="left")
    for column in ("", "class", "an answer", "in 1,000 tokens", "answers with any", "right with", "right without"):
        table.add_column(column, justify="right" if column not in ("", "class") else "left")
    for name, group in groups.items():
        for class_name in thought_classes(group):
            head = f"thoughts/{class_name}/"
            table.add_row(
                escape(name),
                escape(class_name),
                *(_cell(group, f"{head}{key}", "{:.2f}") for key in ("per_answer", "per_1000_tokens")),
                *(_cell(group, f"{head}{key}") for key in ("share", "right_with", "right_without")),
            )
    return table if table.row_count else None


def thought_classes(numbers: Mapping[str, Any]) -> list[str]:
    """List the classes of thoughts that there are numbers of."""
    parts = [key.split("/") for key in numbers if key.startswith("thoughts/") and key.endswith("/per_answer")]
    return ["/".join(part[1:-1]) for part in parts]


def results_line(label: str, groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Write one line with standard errors: `LABEL | SET: avg@8 0.271 ± 0.018, pass@8 0.930 ± 0.020, ... | ...`."""
    parts = [label]
    for name, group in groups.items():
        k = int(group["k"])
        numbers = ", ".join(
            f"{key} {group[key]:.3f}" + (f" ± {group[f'{key}_stderr']:.3f}" if f"{key}_stderr" in group else "")
            for key in dict.fromkeys((f"avg@{k}", f"pass@{k}", f"maj@{k}"))
            if key in group
        )
        parts.append(f"{name}: {numbers}")
    return " | ".join(parts)


def _numbers(questions: Sequence[SampledQuestion]) -> dict[str, Any]:
    """Compute the numbers of some questions, which all have k samples.

    These are the mean of each metric, with `_stderr` and `_ci95` behind its name if more than one question has it; how
    many `questions` and `samples` there are; `k`; and `right`: of how many questions 0, 1, ..., k answers are right.
    """
    metrics = [question.metrics() for question in questions]
    k = len(questions[0].samples)
    names = dict.fromkeys(chain.from_iterable(metrics))
    columns = {name: [own[name] for own in metrics if name in own] for name in names}
    found = estimates(columns, within=ranges_of(names))
    numbers: dict[str, Any] = {
        "questions": len(questions),
        "samples": sum(len(question.samples) for question in questions),
        "k": k,
        "right": _histogram(questions, k),
    }
    for name, estimate in (found | thought_estimates(questions)).items():
        key = f"{name}@{k}" if name in ("avg", "maj") else name
        numbers[key] = estimate.value
        if not math.isnan(estimate.stderr):
            numbers |= {f"{key}_stderr": estimate.stderr, f"{key}_ci95": [estimate.low, estimate.high]}
    return numbers


def _grouped(questions: Sequence[SampledQuestion], by: str) -> dict[str, list[SampledQuestion]]:
    """Group questions by set or data source, and by their number of samples if that differs."""
    groups: dict[tuple[str, int], list[SampledQuestion]] = {}
    for question in questions:
        groups.setdefault((getattr(question, by), len(question.samples)), []).append(question)
    times = Counter(name for name, _ in groups)
    return {name if times[name] == 1 else f"{name} (k={k})": own for (name, k), own in groups.items()}


def _some_up_to(k: int) -> list[int]:
    """List k and the powers of two below it, at most three, without 1: for rewards 0 and 1, pass@1 is avg@k."""
    return sorted({k, *(2**power for power in range(1, k.bit_length()))})[-3:]


def _histogram(questions: Sequence[SampledQuestion], k: int) -> list[int]:
    counts = [0] * (k + 1)
    for question in questions:
        counts[question.right] += 1
    return counts


def _bars(counts: Sequence[int]) -> str:
    """Draw a bar for each count, or for several counts if there are many; any count above 0 is visible."""
    step = -(-len(counts) // 17)
    heights = [sum(counts[first : first + step]) for first in range(0, len(counts), step)]
    most = max(heights) or 1
    return "".join(BARS[-(-height * (len(BARS) - 1) // most)] for height in heights)


def _cell(group: Mapping[str, Any], key: str, form: str = "{:.3f}") -> str:
    if key not in group:
        return ""
    value = form.format(group[key])
    if f"{key}_ci95" not in group:
        return value
    low, high = group[f"{key}_ci95"]
    return f"{value} [dim]± {form.format(max(high - group[key], group[key] - low))}[/]"
