"""Monitor `mismatch`: the sampler draws from another distribution than the trainer learns about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.registry import register


@register("monitor", "mismatch")
@dataclass(kw_only=True)
class Mismatch(Monitor):
    """Log-probabilities of sampler and trainer differ by more than `bound` nats a token on average.

    An engine in bfloat16 differs by 0.03 to 0.04 (measured: SmolLM2, vLLM on a CPU). More is another model: weights
    that did not arrive, another temperature, another attention.
    """

    bound: float = 0.1
    """Largest mean difference, in nats a token."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        found = metrics.get("mismatch/mean", 0.0)
        if found <= self.bound:
            return None
        return EarlyWarning(
            metric="mismatch/mean",
            value=found,
            figure=f"sampler and trainer differ by {found:.3f} nats a token",
            why="Answers are drawn from another model than the one that learns from them, and importance weights "
            "correct but a part of that.",
            remedy="Sample in the trainer's type (sampler.dtype, model.dtype), leave mismatch.correction on, and see "
            "whether it grows: then weights do not arrive.",
        )
