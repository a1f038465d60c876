"""Monitor `logprob`: what the model writes surprises it more than its own uncertainty explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.monitors.series import change_of, keys_ending
from dsrl.registry import register


@register("monitor", "logprob")
@dataclass(kw_only=True)
class Logprob(Monitor):
    """In P(y) the excess of surprise, -log P - entropy of a token, has grown since the phase began.

    Suppressed answers surprise P(y) more and more, while its entropy stays or falls: it grows certain of something else
    than what the model writes. On the embedded model that comes iterations before the reward falls. The conditional
    space is left out: responses are drawn in it, so that surprise and entropy agree, but for which are kept.
    """

    excess: float = 0.08
    """Largest growth of -log P - entropy, in nats a token."""
    window: int = 2
    """Iterations in the means that are compared."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        for key in keys_ending(metrics, "logprob"):
            space = key.removesuffix("logprob")
            if space == "conditional/":
                continue
            logprob = change_of(key, metrics, history, self.window)
            entropy = change_of(f"{space}entropy", metrics, history, self.window)
            if logprob is None or entropy is None:
                continue
            start, now = -logprob.start - entropy.start, -logprob.now - entropy.now
            if now > start + self.excess:
                return EarlyWarning(
                    metric=key,
                    value=logprob.now,
                    figure=f"{key} went from {logprob.start:.3g} to {logprob.now:.3g} nats a token since the phase "
                    f"began, {space}entropy from {entropy.start:.3g} to {entropy.now:.3g}: surprise beyond the entropy "
                    f"grew by {now - start:.2g}",
                    why="The model grows certain of something else than what it writes. Suppression has no lower "
                    "bound: the reward falls next, and does not come back.",
                    remedy="End the phase earlier (phase2.start, or monitors.logprob.action=handoff), or lower its "
                    "learning rate.",
                )
        return None
