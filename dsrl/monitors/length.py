"""Monitor `length`: responses that grow without end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.monitors.series import change_of
from dsrl.registry import register


@register("monitor", "length")
@dataclass(kw_only=True)
class Length(Monitor):
    """The mean length of responses is above `growth`, or below `shrinkage`, times that at the phase's start."""

    growth: float = 3.0
    """Largest mean length, as a multiple of that at the phase's start."""
    shrinkage: float = 0.33
    """Smallest mean length, as a multiple of that at the phase's start."""
    window: int = 2
    """Iterations in the means that are compared."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        length = change_of("response/length_mean", metrics, history, self.window)
        if length is None or self.shrinkage * length.start <= length.now <= self.growth * length.start:
            return None
        grew = length.now > length.start
        return EarlyWarning(
            metric="response/length_mean",
            value=length.now,
            figure=f"responses went from {length.start:.0f} to {length.now:.0f} tokens since the phase began",
            why="Such growth is repetition more often than thought, and sampling takes as many times longer."
            if grew
            else "Answers without their reasoning are guesses, however the reward takes them.",
            remedy="Read samples.jsonl. Where they repeat themselves, end the phase or lower the learning rate; else "
            "the verifier `length` in a composite is a penalty for it."
            if grew
            else "Read samples.jsonl. Where steps are left out, let the verifier ask for them (verifier=format).",
        )
