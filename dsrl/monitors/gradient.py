"""Monitor `gradient`: a gradient far larger than those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.monitors.series import series
from dsrl.registry import register


@register("monitor", "gradient")
@dataclass(kw_only=True)
class Gradient(Monitor):
    """The gradient's norm, before clipping, is above `factor` times the median of the `window` iterations before.

    Iterations without a step, whose norm is 0, do not count.
    """

    factor: float = 8.0
    """Largest norm, as a multiple of that median."""
    window: int = 20
    """Iterations of which the median is taken, at most."""
    least: int = 4
    """Iterations with a step that must have been, before any warning."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        *before, norm = [value for value in series("grad_norm", metrics, history) if value > 0] or [0.0]
        if metrics.get("grad_norm") != norm or len(before) < self.least:
            return None
        usual = median(before[-self.window :])
        if norm <= self.factor * usual:
            return None
        return EarlyWarning(
            metric="grad_norm",
            value=norm,
            figure=f"the gradient's norm is {norm:.3g}, {norm / usual:.0f} times the usual {usual:.3g}",
            why="One such step can undo many; AdamW's moments carry it on for some iterations more.",
            remedy="Set update.clip_norm to about twice the usual norm, lower the learning rate, or begin a phase with "
            "a warm-up (optimizer.warmup).",
        )
