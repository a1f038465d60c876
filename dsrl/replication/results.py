"""Measure what the settings ask for, and write it: claims.json, claims.html, and a table in the terminal."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from dsrl.replication.judged import Judged, judge
from dsrl.replication.page import claims_page, map_page
from dsrl.replication.regime_map import Cell, measure_map
from dsrl.replication.settings import Settings
from dsrl.replication.study import study
from dsrl.storage.atomic import atomic
from dsrl.version import __version__


def measure(settings: Settings, arguments: Sequence[str], console: Console) -> dict[str, Any]:
    """Run everything that is not done, write the results, print them, and return what claims.json holds.

    Args:
        settings: what to measure.
        arguments: the command line, which the results name.
        console: where progress and results are printed.

    Raises:
        DSRLError: some run has failed; the same command goes on.
    """
    command = shlex.join(["python", "-m", "dsrl.claims", *arguments])
    begun = time.time()
    head: dict[str, Any] = {"mode": settings.mode, "command": command, "version": __version__}
    if settings.mode == "map":
        cells = measure_map(settings, console)
        results = head | {"cells": [cell.as_json() for cell in cells], "seconds": time.time() - begun}
        page, table = map_page(results, cells), map_table(cells)
    else:
        studies = [study(settings, world, console) for world in settings.worlds]
        judged = judge(studies)
        results = head | {
            "claims": [one.as_json(command) for one in judged],
            "worlds": {one.world: {"chosen": dict(one.chosen), "tried": dict(one.tried)} for one in studies},
            "seeds": list(settings.seeds),
            "tuning_seeds": list(settings.tuning_seeds),
            "seconds": time.time() - begun,
        }
        page, table = claims_page(results, studies, judged), verdict_table(judged)
    for name, text in (
        ("claims.json", json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n"),
        ("claims.html", page),
    ):
        with atomic(settings.out / name) as partial:
            partial.write_text(text, encoding="utf-8")
    console.print(table)
    console.print(f"{settings.out / 'claims.html'}, claims.json", highlight=False)
    return results


def verdict_table(judged: Sequence[Judged]) -> Table:
    """Make the table of verdicts, for a terminal."""
    table = Table(title="the four claims", title_justify="left")
    for title in ("world", "claim", "estimate", "95% interval", "p, adjusted", "verdict"):
        table.add_column(title)
    for one in judged:
        value, low, high = one.shown
        table.add_row(
            one.world,
            one.finding.name,
            _number(value) + (" times" if one.finding.ratio else ""),
            f"{_number(low)} to {_number(high)}",
            f"{one.adjusted_p:.2g}",
            f"{one.verdict}, {one.note}" if one.note else one.verdict,
        )
    return table


def map_table(cells: Sequence[Cell]) -> Table:
    """Make the table of cells, for a terminal."""
    table = Table(title="dsrl less grpo, area under the curve", title_justify="left")
    for title in ("cell", "base", "grpo", "dsrl", "difference", "95% interval", "leads"):
        table.add_column(title)
    for cell in cells:
        found = cell.difference
        table.add_row(
            cell.title,
            _number(cell.base),
            _number(cell.areas["grpo"]),
            _number(cell.areas["dsrl"]),
            _number(found.value),
            f"{_number(found.low)} to {_number(found.high)}",
            cell.leader,
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
