"""A report in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dsrl.reports.comparison import compared, configurations_of, differences_of
from dsrl.reports.evaluations import compared_evaluations
from dsrl.reports.reading import RunRecord
from dsrl.reports.summary import evaluation_rows, head_of, moments_of, time_by_stage


def print_report(runs: Sequence[RunRecord], console: Console) -> None:
    """Print what runs are, how they went and ended, and how they compare."""
    for run in runs:
        for part in _run(run):
            console.print(part, soft_wrap=isinstance(part, Text))
    if len(runs) > 1:
        for part in (*_comparison(runs), *_evaluations(runs)):
            console.print(part, soft_wrap=isinstance(part, Text))


def summary_of(run: RunRecord) -> Iterator[RenderableType]:
    """Say how a run went: its accuracy and reward phase by phase, and what its monitors warned of in each."""
    moments = moments_of(run)
    if moments["rows"]:
        yield _table("", moments["columns"], [(row["measure"], map(_moment, row["cells"])) for row in moments["rows"]])
    for number in dict.fromkeys(warning["phase"] for warning in run.warnings):
        yield Text("warnings" if number is None else f"warnings in phase {number}", style="bold yellow")
        for own in (warning for warning in run.warnings if warning["phase"] == number):
            head = f"  iteration {own['iteration']}, {own['monitor']}: {own['figure']}"
            yield Text.assemble((_plain(head), "yellow"), _plain(f". {own['why']} {own['remedy']}"))


def _run(run: RunRecord) -> Iterator[RenderableType]:
    yield Text(run.name, style="bold")
    for label, text in head_of(run):
        yield Text.assemble((f"  {label}: ", "dim"), _plain(text))
    for note in run.notes:
        yield Text(f"  note: {_plain(note)}", style="yellow")
    yield from summary_of(run)
    if run.results:
        rows = [
            (
                row["measure"],
                [f"{row['value']:.3f}", "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"],
            )
            for row in evaluation_rows(run)
        ]
        yield _table("", ["value", "95% interval"], rows)
    if stages := time_by_stage(run):
        yield Text("  time: " + ", ".join(f"{name} {share:.0%}" for name, _, share in stages))


def _comparison(runs: Sequence[RunRecord]) -> Iterator[Table]:
    groups = configurations_of(runs)
    labels = [f"{own.label} ({len(own.runs)})" for own in groups]
    yield _table(
        "means over runs ± 95%; in brackets the difference from the first",
        labels,
        [(row["measure"], [_compared(cell, row["digits"]) for cell in row["cells"]]) for row in compared(runs, groups)],
    )
    if differences := differences_of([runs[own.runs[0]] for own in groups]):
        yield _table("what differs", labels, [(key, map(str, values)) for key, values in differences])


def _evaluations(runs: Sequence[RunRecord]) -> Iterator[RenderableType]:
    notes: list[str] = []
    for own in compared_evaluations(runs, notes):
        names = runs[own.first].name, runs[own.second].name
        rows = []
        for row in own.rows:
            interval = "" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
            numbers = f"{row['first']:.3f}", f"{row['second']:.3f}", f"{row['difference']:+.3f}"
            rows.append((row["measure"], [*numbers, interval]))
        yield _table(f"{names[1]} less {names[0]}, paired by question", [*names, "difference", "95% interval"], rows)
        sides = (f"{own.changed[0]} are mostly right in {names[1]} alone", f"{own.changed[1]} in {names[0]} alone")
        yield Text(_plain(f"  of {own.questions} questions, {', '.join(sides)}"))
    yield from (Text(f"  note: {_plain(note)}", style="yellow") for note in notes)


def _table(title: str, columns: Sequence[str], rows: Any) -> Table:
    table = Table(title=escape(_plain(title)) or None, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(escape(_plain(column)), justify="right")
    for name, cells in rows:
        table.add_row(escape(_plain(name)), *(escape(_plain(cell)) for cell in cells))
    return table


def _moment(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    half = "" if cell["half"] is None else f" ± {cell['half']:.3f}"
    return f"{cell['value']:.3f}{half} @{cell['at']}"


def _compared(cell: dict[str, Any] | None, digits: int) -> str:
    if cell is None:
        return ""

    def number(value: float | None, half: float | None, sign: str = "") -> str:
        return f"{value:{sign},.{digits}f}" + ("" if half is None else f" ± {half:,.{digits}f}")

    text = number(cell["mean"], cell["half"])
    return f"{text} ({number(cell['difference'], cell['difference_half'], '+')})" if "difference" in cell else text


def _plain(text: str) -> str:
    """Text without control characters, which a terminal would obey."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
