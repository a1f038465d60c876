"""Monitor `truncation`: responses that are cut off before their answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.monitors.series import series
from dsrl.registry import register


@register("monitor", "truncation")
@dataclass(kw_only=True)
class Truncation(Monitor):
    """More than `share` of the responses reach sampling.max_new_tokens, in the mean of `window` iterations."""

    share: float = 0.3
    """Largest share of responses that are cut off."""
    window: int = 2
    """Iterations in the mean."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        values = series("response/truncated", metrics, history)[-self.window :]
        if len(values) < self.window or fmean(values) <= self.share:
            return None
        return EarlyWarning(
            metric="response/truncated",
            value=fmean(values),
            figure=f"{fmean(values):.0%} of the responses were cut off at sampling.max_new_tokens",
            why="What is cut off has no answer, and is scored as wrong whatever it would have been.",
            remedy="Raise sampling.max_new_tokens. Where samples.jsonl shows text that repeats itself, end the phase "
            "or lower the learning rate.",
        )
