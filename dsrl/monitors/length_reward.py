"""Monitor `length_reward`: a reward that pays for length, and a model that has noticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.monitors.series import change_of, is_measured, series
from dsrl.registry import register

KEY = "group/length_correlation"


@register("monitor", "length_reward")
@dataclass(kw_only=True)
class LengthReward(Monitor):
    """Rewards follow lengths within their groups, and the mean length has gone that way since the phase began.

    Wrong answers that ramble are ordinary, and so is a correlation by itself. It becomes a warning where the model goes
    after it.
    """

    correlation: float = 0.4
    """Largest correlation of reward and length within a group, without its sign."""
    change: float = 0.2
    """Change of the mean length in that direction, as a share of that at the phase's start."""
    window: int = 4
    """Iterations in the means."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        values = series(KEY, metrics, history)[-self.window :]
        length = change_of("response/length_mean", metrics, history, self.window)
        if length is None or not is_measured(KEY, metrics) or len(values) < self.window:
            return None
        correlation, grown = fmean(values), length.now / max(1e-9, length.start) - 1
        if abs(correlation) <= self.correlation or grown * (1 if correlation > 0 else -1) <= self.change:
            return None
        longer = "longer" if correlation > 0 else "shorter"
        return EarlyWarning(
            metric=KEY,
            value=correlation,
            figure=f"reward and length correlate by {correlation:+.2f} within groups, and responses went from "
            f"{length.start:.0f} to {length.now:.0f} tokens",
            why=f"The reward pays for {longer} answers, and the model writes {longer} ones: that may be all it learns.",
            remedy=f"Read {longer} answers of high reward in samples.jsonl: is what they are paid for what you want? "
            "Then change the verifier, or put the verifier `length` beside it in a composite.",
        )
