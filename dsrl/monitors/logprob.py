"""Monitor `logprob`: what the model writes becomes ever less likely to itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.monitors.series import change_of, keys_ending
from dsrl.registry import register


@register("monitor", "logprob")
@dataclass(kw_only=True)
class Logprob(Monitor):
    """The log-probability of a sampled token, in a space that the objective scores, has fallen since the phase began.

    Suppressed answers are to become less likely, yet those of each iteration are drawn anew: where these, too, are ever
    less likely, what suffers is the language and not the error.
    """

    fall: float = 0.15
    """Largest fall of the mean log-probability of a token, in nats."""
    window: int = 2
    """Iterations in the means that are compared."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        for key in keys_ending(metrics, "logprob"):
            logprob = change_of(key, metrics, history, self.window)
            if logprob is not None and logprob.now < logprob.start - self.fall:
                return EarlyWarning(
                    metric=key,
                    value=logprob.now,
                    figure=f"{key} fell from {logprob.start:.3g} to {logprob.now:.3g} nats a token since the phase "
                    "began",
                    why="Newly drawn answers are ever less likely to the model that drew them: it unlearns how to "
                    "write, not an error.",
                    remedy="End the phase earlier (phase2.start, or monitors.logprob.action=handoff), or lower its "
                    "learning rate.",
                )
        return None
