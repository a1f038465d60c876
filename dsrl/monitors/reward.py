"""Monitor `reward`: what was learnt is being lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.monitors.series import series
from dsrl.registry import register


@register("monitor", "reward")
@dataclass(kw_only=True)
class Reward(Monitor):
    """The mean reward has fallen by more than `fall` below its best of the phase. Means over `window` iterations."""

    fall: float = 0.1
    """Largest fall of the mean reward."""
    window: int = 3
    """Iterations in the means that are compared."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        values = series("reward/mean", metrics, history)
        means = [fmean(values[end - self.window : end]) for end in range(self.window, len(values) + 1)]
        if not means or means[-1] >= max(means) - self.fall:
            return None
        return EarlyWarning(
            metric="reward/mean",
            value=means[-1],
            figure=f"reward/mean fell from {max(means):.2f}, its best in this phase, to {means[-1]:.2f} (means of "
            f"{self.window} iterations)",
            why="Training now makes the model worse on its own questions.",
            remedy="Go back to a checkpoint from before the fall (resume=PATH), end the phase earlier, or lower the "
            "learning rate.",
        )
