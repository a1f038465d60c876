"""The summary of a run by phase: where it stood before, at the handoffs, at the end, and at its best."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from dsrl.runs.lines import Line


def summary_table(lines: Sequence[Line]) -> Table | None:
    """Draw a row for each phase, from the lines of metrics.jsonl; None where no iteration has run.

    Of the reward, the first and the last iteration of the phase are shown; of the accuracy on each validation set, the
    last validation before the phase and the last within it, and the best one within it.
    """
    iterations = [line for line in lines if "reward/mean" in line]
    validations = [line for line in lines if "iterations_done" in line]
    if not iterations:
        return None
    accuracies = [key for key in (validations[0] if validations else ()) if "/avg@" in key]
    table = Table(title="by phase", title_justify="left")
    for column in ("phase", "iterations", "reward"):
        table.add_column(column)
    for key in accuracies:
        table.add_column(escape(key.removeprefix("val/")))
        table.add_column("best")
    for number in dict.fromkeys(line["phase"] for line in iterations):
        own = [line for line in iterations if line["phase"] == number]
        first, last = own[0]["iteration"], own[-1]["iteration"]
        cells = [f"{number} {own[0]['objective']}", f"{first} to {last}", _change("reward/mean", own[0], own[-1])]
        before = [line for line in validations if line["iterations_done"] <= first]
        within = [line for line in validations if first < line["iterations_done"] <= last + 1]
        for key in accuracies:
            cells.append(_change(key, *before[-1:], *within[-1:]) if before or within else "")
            best = max(within, key=lambda line: _value(line, key), default=None)
            cells.append("" if best is None else f"{_value(best, key):.3f} after {best['iterations_done']}")
        table.add_row(*map(escape, cells))
    return table


def _change(key: str, *lines: Line) -> str:
    """The values of a metric in lines that follow each other."""
    return " → ".join(f"{_value(line, key):.3f}" for line in lines)


def _value(line: Line, key: str) -> float:
    value = line.get(key)
    return float("nan") if value is None else float(value)
