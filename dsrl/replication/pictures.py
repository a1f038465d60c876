"""Pictures of a page as SVG: learning curves of arms, and differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from dsrl.replication.measured import Curve

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 130, 12, 34
ROW = 30
COLORS = 8
"""Colours that the page's style has, --c1 to --c8."""


def curves_picture(curves: Mapping[str, Sequence[Curve]]) -> str:
    """Draw the mean accuracy of each arm over samples, and the range of its seeds as an area."""
    last = max(curve.done[-1] * curve.responses for own in curves.values() for curve in own)
    top = max(float(curve.accuracy.mean(1).max()) for own in curves.values() for curve in own)
    step = 0.1 if top <= 0.5 else 0.2
    high = step * math.ceil(top / step + 1e-9)
    parts = []
    for tick in np.arange(0, high + step / 2, step).tolist():
        y = _y(tick, high)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.1f}</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = _x(share * last, last)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 17}" text-anchor="middle">{share * last:,.0f}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">samples</text>')
    labels = []
    for number, (arm, own) in enumerate(curves.items()):
        color = f"var(--c{number % COLORS + 1})"
        xs = [_x(done * own[0].responses, last) for done in own[0].done]
        means = np.array([curve.accuracy.mean(1) for curve in own])
        lower, upper, average = (
            [_y(y, high) for y in ys.tolist()] for ys in (means.min(0), means.max(0), means.mean(0))
        )
        area = _points([*xs, *reversed(xs)], [*upper, *reversed(lower)])
        parts.append(f'<polygon points="{area}" fill="{color}" opacity=".13"/>')
        parts.append(f'<polyline points="{_points(xs, average)}" fill="none" stroke="{color}" stroke-width="2"/>')
        labels.append((average[-1], xs[-1], color, arm))
    below: dict[float, float] = {}
    for y, end, color, arm in sorted(labels):
        below[end] = max(y, below.get(end, -math.inf) + 13)  # labels do not lie upon each other
        parts.append(f'<text x="{end + 6:.1f}" y="{below[end] + 4:.1f}" style="fill: {color}">{escape(arm)}</text>')
    return _svg(parts, HEIGHT, "accuracy on held-out questions over samples, by arm")


def intervals_picture(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Draw estimates with their intervals around 0, a row each: title, value, low, high."""
    furthest = max([abs(end) for _, _, low, high in rows for end in (low, high) if math.isfinite(end)], default=1) or 1
    left, right = 240, 20

    def place(value: float) -> float:
        held = max(-furthest, min(furthest, value))
        return left + (held / furthest + 1) / 2 * (WIDTH - left - right)

    height = ROW * len(rows) + 30
    parts = [f'<line class="axis" x1="{place(0):.1f}" x2="{place(0):.1f}" y1="0" y2="{height - 24}"/>']
    for number, (title, value, low, high) in enumerate(rows):
        y = ROW * number + ROW / 2
        color = "var(--good)" if low > 0 else "var(--bad)" if high < 0 else "var(--quiet)"
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(title)}</text>')
        parts.append(
            f'<line x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="2"/>'
        )
        parts.append(f'<circle cx="{place(value):.1f}" cy="{y}" r="4" fill="{color}"/>')
    for tick in (-furthest, 0.0, furthest):
        anchor = "end" if tick > 0 else "start" if tick < 0 else "middle"
        parts.append(f'<text x="{place(tick):.1f}" y="{height - 6}" text-anchor="{anchor}">{tick:+.3f}</text>')
    return _svg(parts, height, "differences with their intervals")


def _points(x: Sequence[float], y: Sequence[float]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _x(samples: float, last: float) -> float:
    return LEFT + samples / last * (WIDTH - LEFT - RIGHT)


def _y(value: float, high: float) -> float:
    return HEIGHT - BOTTOM - value / high * (HEIGHT - TOP - BOTTOM)


def _svg(parts: Sequence[str], height: float, about: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(about)}">{"".join(parts)}</svg>'
