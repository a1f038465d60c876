"""Metrics as columns, the phases of a run, and which chart shows which metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dsrl.reports.intervals import average_half_width, share_half_width
from dsrl.reports.reading import RunRecord, number_of, whole_of
from dsrl.runs.lines import Line

Column = list[float | None]

CHARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Reward", "training, and avg@k on held-out questions", (r"reward/mean", r"val/.+/avg@\d+")),
    ("pass@j", "held-out questions of which one of j responses is right", (r"val/.+/pass@\d+",)),
    ("Length", "tokens of a response", (r"response/length_mean",)),
    ("Truncated", "share of responses cut off at the longest length", (r"response/truncated", r"prompt/truncated")),
    ("Thoughts", "in a response, by class", (r"(val/.+/)?thoughts/.+/per_answer", r"response/reflections")),
    ("Thoughts, by length", "in 1,000 tokens, by class", (r"(val/.+/)?thoughts/.+/per_1000_tokens",)),
    ("Responses with thoughts", "share with any of a class", (r"(val/.+/)?thoughts/.+/share",)),
    ("Right with thoughts", "P(right) with any of a class, and without", (r"(val/.+/)?thoughts/.+/right_with(out)?",)),
    ("Log-probability", "of a scored token, in each space", (r"\w+/logprob",)),
    ("Entropy", "of a scored token in each space, and of all sampled responses", (r"\w+/entropy",)),
    ("Certain", "share of scored tokens that are all but certain", (r"\w+/certain",)),
    ("Kept", "share of responses that the objective keeps, and that a pass scores", (r"(.+/)?(kept|scored)/fraction",)),
    ("Tokens that count", "share of the tokens of kept responses", (r"(.+/)?kept/tokens",)),
    ("Groups without signal", "share of prompts", (r"group/all_(right|wrong)",)),
    ("Gradient norm", "before clipping", (r"grad_norm",)),
    ("Clipped", "share of tokens whose ratio is clipped", (r"(.+/)?clip/fraction",)),
    ("KL", "for a token: to the reference, to the initial policy", (r"(.+/)?kl(/.*)?",)),
    ("Mismatch", "of the sampler's probabilities and the trainer's", (r"mismatch/.*",)),
    ("Loss", "", (r"loss",)),
    ("Learning rate", "", (r"lr",)),
    ("Reward, by component", "", (r"reward/(?!mean$).*",)),
    (
        "Alignment: gain",
        "cosine with the gradient of the expected reward on other prompts",
        (r"probe/alignment/gain/\w+",),
    ),
    (
        "Alignment: responses",
        "gradients of log P(y) and log P(y|x)",
        (r"probe/alignment/sample/(cosine|nonnegative)(/right|/wrong)?",),
    ),
    ("Alignment: tokens", "of all responses", (r"probe/alignment/(known|difference|logits/cosine)",)),
    (
        "Alignment: the step taken",
        "change of a response's log-probability, nats",
        (r"probe/alignment/step/\w+/(right|wrong)",),
    ),
    ("Probes", "", (r"probe/(?!alignment/).*",)),
    ("Memory", "GiB of the largest rank", (r"memory/.*_gib",)),
    ("Throughput", "tokens a second", (r"throughput/.*",)),
)
"""Title, what is measured, and the metrics of each chart, in the order of the page; what is in none comes after, by
prefix. `time/...` has a section of its own, warnings are marks on every chart, numbers of questions make intervals."""

ON_NO_CHART = re.compile(r"(time|warnings)/.*|val/.+/questions|probe/alignment/.*")
"""What is on none beside these: of the many numbers of alignment those that no chart above names."""

IDENTITY = ("iteration", "iterations_done", "phase", "objective", "handoff_reason")
"""Keys of a line that are no metrics."""


@dataclass(frozen=True, kw_only=True)
class PhaseSpan:
    """Iterations of a run in one phase, `first` to `last`."""

    number: int
    objective: str
    first: int
    last: int
    reason: str = ""
    """Why it began, where a condition or a monitor asked for it."""


def phases_of(iterations: Iterable[Line]) -> list[PhaseSpan]:
    """Find the phases that lines of iterations, in order, belong to."""
    spans: list[PhaseSpan] = []
    for line in iterations:
        at, number, objective = line["iteration"], line.get("phase"), str(line.get("objective", ""))
        number = number if isinstance(number, int) else 1
        if spans and (spans[-1].number, spans[-1].objective) == (number, objective):
            spans[-1] = replace(spans[-1], last=at)
        else:
            reason = str(line.get("handoff_reason") or "")
            spans.append(PhaseSpan(number=number, objective=objective, first=at, last=at, reason=reason))
    return spans


def columns_of(lines: Sequence[Line]) -> dict[str, Column]:
    """Turn lines into a column for each metric: a number, or None where the line has none."""
    names = dict.fromkeys(key for line in lines for key in line if key not in IDENTITY)
    columns = {name: [number_of(line.get(name)) for line in lines] for name in names}
    return {name: column for name, column in columns.items() if any(value is not None for value in column)}


def charts_of(names: Iterable[str]) -> list[dict[str, Any]]:
    """Choose the charts for these metrics: `title`, `about` and `metrics` of each."""
    left = list(dict.fromkeys(names))
    charts = []
    for title, about, patterns in CHARTS:
        shown = [name for pattern in patterns for name in left if re.fullmatch(pattern, name)]
        if shown:
            left = [name for name in left if name not in shown]
            charts.append({"title": title, "about": about, "metrics": shown})
    left = [name for name in left if not ON_NO_CHART.fullmatch(name)]
    for prefix in dict.fromkeys(name.partition("/")[0] for name in left):
        own = [name for name in left if name.partition("/")[0] == prefix]
        charts.append({"title": prefix, "about": "", "metrics": own})
    return charts


def half_widths(run: RunRecord) -> dict[str, Column]:
    """Compute how far the 95% intervals over questions of avg@k and pass@k reach, where it is known how many there
    are.
    """
    found: dict[str, Column] = {}
    for name in columns_of(run.validations):
        set_name, measure, k = accuracy_parts(name)
        largest = max(_known_k(run.validations, set_name), default=0)
        if (measure == "avg" and largest >= 2) or (measure == "pass" and k == largest):
            column = [_half_width(line, name, questions_of(run, line, set_name)) for line in run.validations]
            if any(half is not None for half in column):
                found[name] = column
    return found


def questions_of(run: RunRecord, line: Line, set_name: str) -> int | None:
    """Say how many questions a validation asked; None where neither its line nor the configuration tells.

    Lines of version 0.2 do not have it: there the size of a procedural source is that of config.yaml.
    """
    asked = number_of(line.get(f"val/{set_name}/questions"))
    data = run.config.get("data")
    if asked is None and isinstance(data, dict) and data.get("name") == set_name:
        asked = whole_of(data.get("val_size"))
    return int(asked) if asked and asked >= 1 else None


def accuracy_parts(name: str) -> tuple[str, str, int]:
    """Take `val/SET/avg@8` apart: set, measure, k; empty for another metric."""
    matched = re.fullmatch(r"val/(.+)/(\w+)@(\d+)", name)
    return (matched[1], matched[2], int(matched[3])) if matched else ("", "", 0)


def _known_k(lines: Iterable[Line], set_name: str) -> set[int]:
    parts = [accuracy_parts(key) for line in lines for key in line]
    return {k for name, measure, k in parts if (name, measure) == (set_name, "pass")}


def _half_width(line: Line, name: str, questions: int | None) -> float | None:
    """How far the interval of avg@k reaches, by pass@1 and pass@2 of the line, or that of pass@k."""
    set_name, measure, k = accuracy_parts(name)
    if questions is None:
        return None
    if measure == "pass":
        share = number_of(line.get(name))
        return None if share is None else share_half_width(share, questions)
    one, two = (number_of(line.get(f"val/{set_name}/pass@{j}")) for j in (1, 2))
    return None if one is None or two is None else average_half_width(one, two, k, questions)
