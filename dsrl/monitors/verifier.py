"""Monitor `verifier`: checks that fail, so that answers are scored 0 without having been read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.monitors.series import keys_ending
from dsrl.registry import register


@register("monitor", "verifier")
@dataclass(kw_only=True)
class Verifier(Monitor):
    """A verifier failed on more than `share` of an iteration's responses: the component `failed` of some verifiers."""

    share: float = 0.1
    """Largest share of responses on which the verifier may fail."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        failed = {key: metrics[key] for key in keys_ending(metrics, "failed") if key.startswith("reward/")}
        key = max(failed, key=lambda name: failed[name], default="")
        if not key or failed[key] <= self.share:
            return None
        return EarlyWarning(
            metric=key,
            value=failed[key],
            figure=f"the verifier failed on {failed[key]:.0%} of the responses ({key})",
            why="Each of them was scored 0 whatever it says, and training now suppresses right answers, too.",
            remedy="Call the verifier on responses of samples.jsonl (dsrl.verifiers.score_texts) and mend what it "
            "raises; raise its timeout where it is slow.",
        )
