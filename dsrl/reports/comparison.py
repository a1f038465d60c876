"""Runs side by side: seeds of one configuration together, configurations against the first, and what differs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsrl.reports.curves import IDENTITY, accuracy_parts, columns_of, phases_of
from dsrl.reports.intervals import Estimated, difference_of, mean_of
from dsrl.reports.reading import RunRecord, flat, number_of

IGNORED = (
    *("seed", "run_dir", "resume", "logger", "callbacks", "checkpoint", "plan", "report"),
    *("logged_samples", "logged_tokens"),
)
"""Keys, and all below them, that do not make another configuration."""
LAST = 5
"""Iterations whose mean reward is the final one."""
SMOOTHED = 3
"""Iterations whose mean reward must reach a level."""
LABEL_LIMIT = 60
POINTS = 400
"""Points of a mean curve, at most."""


@dataclass(kw_only=True)
class Configuration:
    """Runs that differ in the seed, and in where they are written, at most."""

    label: str = ""
    runs: list[int] = field(default_factory=list)
    """Their places in the list of runs."""


def configurations_of(runs: Sequence[RunRecord]) -> list[Configuration]:
    """Group runs by configuration, in order; one without config.yaml is a configuration by itself."""
    groups: dict[str, Configuration] = {}
    for number, run in enumerate(runs):
        key = json.dumps(_settings(run), sort_keys=True, default=str) if run.config else f"run {number}"
        groups.setdefault(key, Configuration()).runs.append(number)
    found = list(groups.values())
    changed = [key for key, _ in differences_of([runs[own.runs[0]] for own in found])]
    for own in found:
        own.label = _label(runs[own.runs[0]], changed)
    labels = [own.label for own in found]
    for own in found:
        if labels.count(own.label) > 1:
            own.label = runs[own.runs[0]].name
    return found


def differences_of(runs: Sequence[RunRecord]) -> list[tuple[str, list[Any]]]:
    """List the keys of the configurations that differ, and the value in each; None where a run lacks a key."""
    settings = [_settings(run) for run in runs]
    keys = dict.fromkeys(key for own in settings for key in own)
    rows = [(key, [own.get(key) for own in settings]) for key in keys]
    return [(key, values) for key, values in rows if any(value != values[0] for value in values)]


def mean_curves(runs: Sequence[RunRecord], group: Configuration) -> dict[str, dict[str, list[Any]]]:
    """Average each metric over the runs of a group: `x`, `mean`, and `low`, `high` of the 95% interval over runs."""
    curves: dict[str, dict[str, list[Any]]] = {}
    for lines, at in (("iterations", "iteration"), ("validations", "iterations_done")):
        values: dict[str, dict[int, list[float]]] = {}
        for number in group.runs:
            for line in getattr(runs[number], lines):
                for key, value in line.items():
                    if key not in IDENTITY and (found := number_of(value)) is not None:
                        values.setdefault(key, {}).setdefault(line[at], []).append(found)
        for name, own in values.items():
            places = sorted(own)[:: max(1, len(own) // POINTS)]
            means = [mean_of(own[place]) for place in places]
            curves[name] = {"x": places, "mean": [_short(mean.value) for mean in means]}
            if any(mean.half for mean in means):
                curves[name]["low"] = [_short(mean.value - (mean.half or 0)) for mean in means]
                curves[name]["high"] = [_short(mean.value + (mean.half or 0)) for mean in means]
    return curves


def final_values(run: RunRecord) -> dict[str, float]:
    """Give the final numbers of a run: the mean reward of its last iterations, and what the last validation says."""
    rewards = [value for line in run.iterations[-LAST:] if (value := number_of(line["reward/mean"])) is not None]
    found = {f"reward, last {len(rewards)} iterations": statistics.fmean(rewards)} if rewards else {}
    columns = columns_of(run.validations[-1:])
    largest = max((accuracy_parts(name)[2] for name in columns), default=0)
    shown = {name: column[0] for name, column in columns.items() if accuracy_parts(name)[2] == largest}
    return found | {name.removeprefix("val/"): value for name, value in shown.items() if value is not None}


def compared(runs: Sequence[RunRecord], groups: Sequence[Configuration]) -> list[dict[str, Any]]:
    """Compare the final numbers, and the responses needed to reach a level, of configurations with the first.

    Returns a row for each measure, `measure` and `cells`: of each group `mean`, `half` (of the 95% interval over its
    runs), `runs`, and for all but the first `difference` and `difference_half`, paired by seed where the seeds are the
    same.
    """
    finals = [{number: final_values(runs[number]) for number in own.runs} for own in groups]
    rows, seeds = [], _seeds(runs, groups)
    for measure in dict.fromkeys(name for own in finals for values in own.values() for name in values):
        by_group = [
            {seeds[number]: values[measure] for number, values in own.items() if measure in values} for own in finals
        ]
        rows.append({"measure": measure, "cells": _cells(by_group), "digits": 3})
    return rows + _efficiency(runs, groups, seeds)


def responses_to_reach(run: RunRecord, level: float) -> float | None:
    """Count the responses sampled until the mean reward of three iterations in a row reaches a level; None: never."""
    rewards = [number_of(line["reward/mean"]) for line in run.iterations]
    sizes = [run.config.get(key) for key in ("prompts_per_iteration", "responses_per_prompt")]
    each = sizes[0] * sizes[1] if all(isinstance(size, int) for size in sizes) else None  # type: ignore[operator]
    for end in range(SMOOTHED, len(rewards) + 1):
        window = [value for value in rewards[end - SMOOTHED : end] if value is not None]
        if len(window) == SMOOTHED and statistics.fmean(window) >= level and each:
            return float((run.iterations[end - 1]["iteration"] + 1) * each)
    return None


def _efficiency(
    runs: Sequence[RunRecord], groups: Sequence[Configuration], seeds: Mapping[int, object]
) -> list[dict[str, Any]]:
    """Responses to a level that every configuration reaches on average: 95% of the lowest final reward."""
    finals = []
    for own in groups:
        values = [value for number in own.runs for name, value in final_values(runs[number]).items() if "," in name]
        finals += [statistics.fmean(values)] if values else []
    if len(finals) < len(groups) or len(groups) < 2:
        return []
    level = 0.95 * min(finals)
    by_group, missed = [], 0
    for own in groups:
        needed = {seeds[number]: responses_to_reach(runs[number], level) for number in own.runs}
        missed += sum(value is None for value in needed.values())
        by_group.append({seed: value for seed, value in needed.items() if value is not None})
    name = f"responses until reward {level:.3f}" + (f" ({missed} runs never)" if missed else "")
    return [{"measure": name, "cells": _cells(by_group), "digits": 0}]


def _cells(by_group: Sequence[Mapping[object, float]]) -> list[dict[str, Any] | None]:
    cells: list[dict[str, Any] | None] = []
    for values in by_group:
        if not values:
            cells.append(None)
            continue
        mean = mean_of(list(values.values()))
        cell: dict[str, Any] = {"mean": _short(mean.value), "half": _half(mean), "runs": len(values)}
        if cells and by_group[0]:
            difference = difference_of(by_group[0], values)
            cell |= {"difference": _short(difference.value), "difference_half": _half(difference)}
        cells.append(cell)
    return cells


def _half(estimate: Estimated) -> float | None:
    return None if estimate.half is None else _short(estimate.half)


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _seeds(runs: Sequence[RunRecord], groups: Sequence[Configuration]) -> dict[int, object]:
    """The seed of each run, by its place; its folder where the seed is unknown, or not its own within a group."""
    found: dict[int, object] = {}
    for own in groups:
        seeds = [runs[number].config.get("seed") for number in own.runs]
        known = None not in seeds and len(set(map(str, seeds))) == len(seeds)
        found |= {
            number: seed if known else str(runs[number].folder) for number, seed in zip(own.runs, seeds, strict=True)
        }
    return found


def _settings(run: RunRecord) -> dict[str, Any]:
    """The flat configuration, without what makes no other one. A phase that is null is as one that is not there."""
    return {
        key: value
        for key, value in flat(run.config)
        if key.partition(".")[0] not in IGNORED and not (value is None and key.startswith("phase"))
    }


def _label(run: RunRecord, changed: Sequence[str]) -> str:
    """The objectives of the phases, and what else differs where that is short."""
    spans = phases_of(run.iterations)
    settings = _settings(run)
    planned = [settings.get("objective.name"), *(settings.get(f"phase{n}.objective.name") for n in range(2, 6))]
    names = [str(name) for name in planned if name] or [span.objective for span in spans]
    label = " → ".join(names) or run.name
    rest = [
        f"{key.split('.')[-1]}={settings[key]}"
        for key in changed
        if key in settings and not key.startswith(("objective", "phase"))
    ]
    longer = f"{label}, {', '.join(rest)}" if rest else label
    return longer if len(longer) <= LABEL_LIMIT else label
