"""Write a report: one HTML file that asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from dsrl.reports.comparison import compared, configurations_of, differences_of, mean_curves
from dsrl.reports.curves import Column, charts_of, columns_of, half_widths, phases_of
from dsrl.reports.evaluations import ComparedEvaluations, Place, compared_evaluations
from dsrl.reports.reading import RunRecord, flat, read_run
from dsrl.reports.samples import TEXT_LIMIT, pack_samples
from dsrl.reports.summary import evaluation_rows, head_of, moments_of, time_by_stage
from dsrl.storage.atomic import atomic
from dsrl.version import __version__

STYLES = ("page.css", "tokens.css", "parts.css")
SCRIPTS = ("elements.js", "charts.js", "tables.js", "tokens.js", "texts.js", "samples.js", "evaluations.js", "page.js")
"""In this order, they are the page's one style, and its one script."""
NUMBERS = 200_000
"""Numbers of curves on a page; more are thinned."""


def write_report(folders: Sequence[Path], out: Path) -> list[RunRecord]:
    """Read run folders and write the report of all of them to `out`; returns what was read."""
    runs = read_runs(folders)
    with atomic(out) as partial:
        partial.write_bytes(render(runs))
    return runs


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Read run folders, each under its name, or under the end of its path where another has the same name."""
    names = [folder.resolve().name for folder in folders]
    return [
        read_run(folder, name if names.count(name) == 1 else "/".join(folder.resolve().parts[-2:]))
        for folder, name in zip(folders, names, strict=True)
    ]


def render(runs: Sequence[RunRecord]) -> bytes:
    """Make the HTML of a report, in UTF-8.

    What runs hold is data in the page, never markup: a JSON text without `<`, of which scripts show strings as text.
    A policy in the page allows its own script and its own style, and no request at all.
    """
    style, script = ("\n".join(map(_read, names)) for names in (STYLES, SCRIPTS))
    page = _read("page.html")
    for mark, text in {
        "STYLE_HASH": _sha256(style),
        "SCRIPT_HASH": _sha256(script),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": embedded(page_data(runs)),
    }.items():
        page = page.replace(f"@{mark}@", text, 1)
    return page.encode("utf-8", "backslashreplace")  # half a surrogate pair becomes JSON's escape of it


def embedded(data: Any) -> str:
    """Write JSON that a script element can hold: nothing in it can end the element, or begin another."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def page_data(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Gather what the page shows, as plain values."""
    notes: list[str] = []
    evaluations = compared_evaluations(runs, notes)
    samples, places = pack_samples(runs, notes, set().union(*(own.places for own in evaluations)))
    groups = configurations_of(runs)
    several = len(runs) > 1
    packed = [_run(run, _stride(runs), notes) for run in runs]
    return {
        "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
        "runs": packed,
        "charts": charts_of(name for run in packed for name in (*run["columns"], *run["validations"])),
        "groups": [
            {"label": own.label, "runs": own.runs, "curves": mean_curves(runs, own) if several else {}}
            for own in groups
        ],
        "compared": compared(runs, groups) if several else [],
        "differences": differences_of([runs[own.runs[0]] for own in groups]),
        "evaluations": [_evaluations(own, places) for own in evaluations],
        "samples": samples,
        "notes": list(dict.fromkeys(notes)),
    }


def _run(run: RunRecord, stride: int, notes: list[str]) -> dict[str, Any]:
    lines = run.iterations if stride == 1 else [*run.iterations[:-1:stride], *run.iterations[-1:]]
    if len(lines) < len(run.iterations):
        notes.append(f"curves show every {stride}th iteration; metrics.jsonl has all")
    return {
        "name": run.name,
        "evaluation": run.is_evaluation,
        "head": head_of(run),
        "moments": moments_of(run),
        "results": evaluation_rows(run),
        "phases": [vars(span) for span in phases_of(run.iterations)],
        "x": [line["iteration"] for line in lines],
        "columns": _short(columns_of(lines)),
        "done": [line["iterations_done"] for line in run.validations],
        "validations": _short(columns_of(run.validations)),
        "halves": _short(half_widths(run)),
        "iterations": len(run.iterations),
        "stages": time_by_stage(run),
        "config": {
            key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in flat(run.config)
        },
        "warnings": run.warnings,
        "notes": run.notes,
    }


def _evaluations(own: ComparedEvaluations, places: Mapping[Place, int]) -> dict[str, Any]:
    """The comparison as plain values, with the rows of its responses in the place of where they come from."""

    def shown(question: dict[str, Any]) -> dict[str, Any]:
        rows = [[places[place] for place in side if place in places] for side in question["places"]]
        return {**question, "places": rows, "prompt": question["prompt"][:TEXT_LIMIT]}

    return vars(own) | {side: [shown(question) for question in getattr(own, side)] for side in ("gained", "lost")}


def _stride(runs: Sequence[RunRecord]) -> int:
    """Of how many iterations one is shown, so that all curves together have few enough points."""
    numbers = sum(len(line) for run in runs for line in run.iterations)
    return -(-numbers // NUMBERS) or 1


def _short(columns: dict[str, Column]) -> dict[str, Column]:
    return {
        name: [None if value is None else float(f"{value:.5g}") for value in column] for name, column in columns.items()
    }


def _read(name: str) -> str:
    return (files("dsrl.reports") / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
