"""What a reader wants to know of a run first: how it was started, of what it is made, and how it ended."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from dsrl.reports.curves import accuracy_parts, half_widths, phases_of
from dsrl.reports.reading import RunRecord, number_of
from dsrl.runs.lines import Line

Point = tuple[int, float, float | None]
"""Iterations done, a value, and half of its 95% interval."""
WINDOW = 5
"""Iterations whose mean reward stands for a moment of a run."""


def head_of(run: RunRecord) -> list[tuple[str, str]]:
    """List what a run is, as pairs of a label and a text."""
    config = run.config
    pairs: list[tuple[str, str | None]] = [("Folder", str(run.folder))]
    for start in run.starts:
        at = start.get("iteration")
        label = "Command" if not at else f"Command, from iteration {at}"
        pairs.append((label, str(start.get("command", ""))))
        if start.get("resumed"):
            pairs.append(("Resumed from", f"{start['resumed']}{_changed(start.get('changed'))}"))
    pairs += [
        ("Model", _named(config.get("model"), "dtype", "revision")),
        ("Data", _named(config.get("data"), "train", "val", "digits", "train_size")),
        ("Verifier", _named(config.get("verifier"))),
        *((f"Phase {number}", text) for number, text in _phases(run)),
        ("Batch", _batch(config)),
        ("Seed", None if config.get("seed") is None else str(config["seed"])),
        ("Progress", _progress(run)),
        ("Versions", _versions(run)),
    ]
    return [(label, text) for label, text in pairs if text]


def _changed(changed: Any) -> str:
    """Say what a resumed run was given anew: `, with optimizer.lr 0.0001 → 1e-05`."""
    if not isinstance(changed, Mapping) or not changed:
        return ""
    told = [
        f"{key} {pair[0]} → {pair[1]}" for key, pair in changed.items() if isinstance(pair, list) and len(pair) == 2
    ]
    return f", with {', '.join(told)}"


def moments_of(run: RunRecord) -> dict[str, Any]:
    """Tabulate accuracy and reward at the first, and for each phase at its best and at its end.

    Accuracies of a phase are those of the validations after its iterations; that at its end is the newest one. The
    reward of a moment is the mean of iterations that end there, within the phase.

    Returns:
        `columns`, names of the moments, and `rows`, each with `measure` and `cells`: a value, half of its 95% interval
        (None where the number of questions is not known), and the iterations done by then; None without a value.
    """
    spans = phases_of(run.iterations)
    columns = ["first"]
    for span, following in zip(spans, [*spans, None][1:], strict=True):
        columns.append("best" if len(spans) == 1 else f"best of phase {span.number}, {span.objective}")
        columns.append(f"handoff to {following.objective}" if following else "end" if run.finished else "so far")
    rows = []
    widths = half_widths(run)
    for name in _shown_accuracies(run):
        column = [
            (line["iterations_done"], value, widths.get(name, [None] * len(run.validations))[place])
            for place, line in enumerate(run.validations)
            if (value := number_of(line.get(name))) is not None
        ]
        cells = [_cell(column[:1])]
        for span in spans:
            own = [point for point in column if span.first < point[0] <= span.last + 1]
            until = [point for point in column if point[0] <= span.last + 1]
            cells += [_cell(sorted(own, key=_by_value)[-1:]), _cell(until[-1:])]
        rows.append({"measure": name.removeprefix("val/"), "cells": cells})
    rewards = [
        (line["iteration"], value) for line in run.iterations if (value := number_of(line["reward/mean"])) is not None
    ]
    if rewards:
        cells = []
        for span in spans:
            means = _window_means([pair for pair in rewards if span.first <= pair[0] <= span.last])
            cells = cells or [_cell(means[:1])]
            cells += [_cell(sorted(means, key=_by_value)[-1:]), _cell(means[-1:])]
        rows.append({"measure": f"training reward, mean of up to {WINDOW} iterations", "cells": cells})
    return {"columns": columns, "rows": rows}


def time_by_stage(run: RunRecord) -> list[tuple[str, float, float]]:
    """Sum the seconds of each stage over iterations: name, seconds, share of all. `other` is in no stage."""
    totals: dict[str, float] = {}
    for line in run.iterations:
        for key, value in line.items():
            if key.startswith("time/") and (seconds := number_of(value)) is not None:
                totals[key.removeprefix("time/")] = totals.get(key.removeprefix("time/"), 0.0) + seconds
    whole = totals.pop("iteration", None) or sum(totals.values())
    totals["other"] = max(0.0, whole - sum(totals.values()))
    return [(name, seconds, seconds / whole) for name, seconds in totals.items()] if whole else []


def evaluation_rows(run: RunRecord) -> list[dict[str, Any]]:
    """Tabulate results.json of an evaluation: `measure` (set and metric), `value`, `low`, `high`, `questions`."""
    rows = []
    for name, numbers in run.results.items():
        for key, value in numbers.items():
            if key.endswith(("_stderr", "_ci95")) or key in ("questions", "samples", "k"):
                continue
            if (found := number_of(value)) is None:
                continue
            interval = numbers.get(f"{key}_ci95")
            low, high = interval if isinstance(interval, list) and len(interval) == 2 else (None, None)
            rows.append(
                {
                    "measure": f"{name}: {key}",
                    "value": found,
                    "low": number_of(low),
                    "high": number_of(high),
                    "questions": number_of(numbers.get("questions")),
                }
            )
    return rows


def _shown_accuracies(run: RunRecord) -> list[str]:
    """avg@k and pass@k of each set, for its largest k."""
    names = dict.fromkeys(key for line in run.validations for key in line if accuracy_parts(key)[0])
    largest: dict[tuple[str, str], int] = {}
    for name in names:
        set_name, measure, k = accuracy_parts(name)
        largest[set_name, measure] = max(k, largest.get((set_name, measure), 0))
    return [name for name in names if (parts := accuracy_parts(name)) and largest[parts[0], parts[1]] == parts[2]]


def _cell(points: list[Point]) -> dict[str, Any] | None:
    if not points:
        return None
    at, value, half = points[0]
    return {"value": value, "half": half, "at": at}


def _by_value(point: Point) -> float:
    return point[1]


def _window_means(rewards: list[tuple[int, float]]) -> list[Point]:
    """The mean of each window of iterations, or of all where they are fewer, at the iterations done by its end."""
    windows = [rewards[begin : begin + WINDOW] for begin in range(max(1, len(rewards) - WINDOW + 1))]
    return [(own[-1][0] + 1, statistics.fmean(value for _, value in own), None) for own in windows if own]


def _named(part: Any, *keys: str) -> str | None:
    """The name of a part, and some of what it is made with."""
    if not isinstance(part, Mapping):
        return None if part is None else str(part)
    rest = [f"{key} {part[key]}" for key in keys if part.get(key) not in (None, [], {})]
    lora = part.get("lora")
    if isinstance(lora, Mapping) and lora.get("rank"):
        rest.append(f"LoRA of rank {lora['rank']}")
    return ", ".join([str(part.get("name", "")), *rest])


def _phases(run: RunRecord) -> Iterator[tuple[int, str]]:
    """Each phase, planned or run: its objective with its parts, its iterations, its learning rate."""
    spans = {span.number: span for span in phases_of(run.iterations)}
    for number in range(1, 6):
        phase = run.config if number == 1 else run.config.get(f"phase{number}")
        objective = phase.get("objective") if isinstance(phase, Mapping) else None
        span = spans.get(number)
        if objective is None and span is None:
            continue
        parts = [_objective(objective)] if objective is not None else [span.objective if span else ""]
        optimizer = run.config.get("optimizer") if number == 1 else phase
        if isinstance(optimizer, Mapping) and optimizer.get("lr") is not None:
            parts.append(f"lr {optimizer['lr']}")
        parts.append(f"iterations {span.first} to {span.last}" if span else "not begun")
        parts += [f"begun because {span.reason}"] if span and span.reason else []
        yield number, "; ".join(parts)


def _objective(objective: Any) -> str:
    """`nsr_prerl: space marginal, advantage group_center, ...`."""
    if not isinstance(objective, Mapping):
        return str(objective)
    parts = []
    for key, value in objective.items():
        if key == "name" or (key == "kl" and isinstance(value, Mapping) and not value.get("coefficient")):
            continue
        if isinstance(value, Mapping):
            inner = ", ".join(f"{name} {own}" for name, own in value.items() if name != "name")
            value = f"{value.get('name', '')} ({inner})".strip() if inner else value.get("name", "")
        parts.append(f"{key} {value}")
    return f"{objective.get('name', '')}: {', '.join(parts)}"


def _batch(config: Mapping[str, Any]) -> str | None:
    sampling = config.get("sampling")
    if config.get("prompts_per_iteration") is None:
        return None
    text = f"{config['prompts_per_iteration']} prompts x {config.get('responses_per_prompt')} responses"
    if isinstance(sampling, Mapping):
        text += f", up to {sampling.get('max_new_tokens')} tokens, temperature {sampling.get('temperature')}"
    return text


def _progress(run: RunRecord) -> str | None:
    if not run.iterations:
        return "no iteration yet" if not run.is_evaluation else None
    last: Line = run.iterations[-1]
    text = f"{last['iteration'] + 1} of {run.config.get('iterations', '?')} iterations"
    seconds = sum(number_of(line.get("time/iteration")) or 0.0 for line in run.iterations)
    tokens = sum(number_of(line.get("tokens/sampled")) or 0.0 for line in run.iterations)
    text += f", {seconds / 60:.1f} min in iterations" if seconds else ""
    return text + (f", {tokens:,.0f} tokens sampled" if tokens else "")


def _versions(run: RunRecord) -> str | None:
    versions = run.starts[-1].get("versions") if run.starts else None
    if not isinstance(versions, Mapping):
        return None
    return ", ".join(f"{name} {version}" for name, version in versions.items())
