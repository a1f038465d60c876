"""claims.html: verdicts, curves and tables in one file without scripts, in the style of the reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from dsrl.replication.arms import ARMS, BONUS
from dsrl.replication.claims import Shown
from dsrl.replication.judged import Judged
from dsrl.replication.pictures import curves_picture, intervals_picture
from dsrl.replication.regime_map import Cell
from dsrl.replication.study import Study

MEANING = {
    "reproduced": "what the paper says was found here",
    "contradicted": "the opposite was found here",
    "equivalent": "a difference of 0.02 or more can be excluded",
    "undecided": "these runs do not tell",
}
STYLE = """
main { max-width: 62rem; margin: 0 auto; padding: 1rem; }
h2 { margin-top: 2.2rem; } h3 { margin-top: 1.4rem; } section { margin: 1rem 0 2rem; }
svg { width: 100%; max-width: 46rem; height: auto; font-size: 12px; } svg text { fill: var(--quiet); }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--quiet); stroke-dasharray: 3 3; }
.verdict { font-weight: 600; } .reproduced { color: var(--good); } .contradicted { color: var(--bad); }
.quiet { color: var(--quiet); } table { border-collapse: collapse; } .wide { overflow-x: auto; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
td, th { border-bottom: 1px solid var(--line); white-space: normal; overflow-wrap: normal; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
"""


def claims_page(results: Mapping[str, Any], studies: Sequence[Study], judged: Sequence[Judged]) -> str:
    """Make the page of a replication of the four claims."""
    parts = [
        '<h1>Four claims of "From P(y|x) to P(y)", measured</h1>',
        _command(results),
        '<p class="quiet">Where a claim holds, its share is above one half, its difference above 0, its ratio above '
        "1. Intervals are 95%, by bootstrap over seeds and then questions; p is adjusted for the claims of a world "
        "(Holm).</p>",
    ]
    for study in studies:
        own = [one for one in judged if one.world == study.world]
        parts.append(f"<h2>World: {escape(study.world)}</h2>")
        parts.append(_table(("claim", "estimate", "95% interval", "p", "verdict"), [_verdict_row(one) for one in own]))
        parts.append("<h3>Learning curves</h3>")
        about = ", ".join(f"{arm.name}: {arm.about}" for arm in ARMS)
        seeds = len(results["seeds"])
        parts.append(f'<p class="quiet">Means over {seeds} seeds, and their range. {escape(about)}.</p>')
        parts.append(curves_picture(study.curves))
        parts += [_finding(one) for one in own]
        parts.append("<h3>What was tuned</h3>")
        parts.append(_table(("arm", "chosen", "tried: mean over the tuning seeds"), _tuning_rows(study)))
    return _page("claims of P(y), measured", parts)


def map_page(results: Mapping[str, Any], cells: Sequence[Cell]) -> str:
    """Make the page of a regime map."""
    rows = [(cell.title, cell.difference.value, cell.difference.low, cell.difference.high) for cell in cells]
    table = [
        (
            escape(cell.title),
            _number(cell.base, 3),
            _number(cell.areas["grpo"], 3),
            _number(cell.areas["dsrl"], 3),
            _interval(cell.difference.value, cell.difference.low, cell.difference.high, 3),
            _number(None if math.isnan(cell.moved) else cell.moved, 3),
            cell.leader,
        )
        for cell in cells
    ]
    heads = ("cell", "base", "grpo", "dsrl", "dsrl less grpo", "log P(y), end of the warm-up less its start", "leads")
    return _page(
        "where dsrl leads",
        [
            "<h1>Where dsrl leads over grpo</h1>",
            _command(results),
            f'<p class="quiet">Area under the curve of held-out accuracy over samples, {cells[0].seeds} seeds, one '
            "axis at a time around the defaults; intervals are 95%, by bootstrap over seeds and then questions.</p>",
            intervals_picture(rows),
            _table(heads, table),
        ],
    )


def _finding(one: Judged) -> str:
    finding = one.finding
    rows = [_shown(shown) for shown in finding.beside]
    return (
        f"<section><h3>{escape(finding.claim)}</h3><p>{escape(finding.endpoint)} "
        f'<span class="verdict {one.verdict}">{one.verdict}</span>: {MEANING[one.verdict]}.</p>'
        f"{_table(('measured', 'estimate', ''), rows)}</section>"
    )


def _verdict_row(one: Judged) -> tuple[str, ...]:
    value, low, high = one.shown
    note = f"; {one.note}" if one.note else ""
    return (
        escape(one.finding.claim),
        _number(value, 3),
        f"{_number(low, 3)} to {_number(high, 3)}",
        f"{one.adjusted_p:.2g}",
        f'<span class="verdict {one.verdict}">{one.verdict}</span>{note}',
    )


def _tuning_rows(study: Study) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for arm in ARMS:
        bonus = f", bonus {study.chosen['bonus']:g}" if arm.name == BONUS else ""
        tried = ", ".join(f"{value}: {score:.3f}" for value, score in study.tried.get(arm.name, {}).items())
        chosen = f"lr {study.chosen[arm.name]:g}{bonus}"
        rows.append((escape(arm.name), chosen, escape(tried) or "nothing to choose among"))
    return rows


def _shown(shown: Shown) -> tuple[str, ...]:
    return (
        escape(shown.measure),
        _interval(shown.value, shown.low, shown.high, shown.digits),
        f'<span class="quiet">{escape(shown.note)}</span>',
    )


def _interval(value: float | None, low: float | None, high: float | None, digits: int) -> str:
    if value is None:
        return "-"
    ends = "" if low is None or high is None else f" ({_number(low, digits)} to {_number(high, digits)})"
    return f"{_number(value, digits)}{ends}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def _command(results: Mapping[str, Any]) -> str:
    minutes = round(results["seconds"] / 60)
    took = f", {minutes} minutes in the last call" if minutes else ""  # where most was done before, that says nothing
    version = escape(results["version"])
    return f"<p><code>{escape(results['command'])}</code> <span class='quiet'>dsrl {version}{took}</span></p>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make a table; cells are HTML."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _page(title: str, parts: Sequence[str]) -> str:
    style = (files("dsrl.reports") / "page.css").read_text(encoding="utf-8") + STYLE
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )
