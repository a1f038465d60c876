"""Monitor `ratio`: updates that go further than their samples can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.monitors.series import keys_ending, series
from dsrl.registry import register

MEANING = {
    "clip/fraction": (
        "new and old probabilities are so far apart that the surrogate clips them",
        "A clipped token learns nothing more: the policy has left the responses of this iteration behind.",
        "Lower the learning rate, update.epochs or update.minibatches.",
    ),
    "mismatch/capped": (
        "those of trainer and sampler are so far apart that the importance weight reaches its cap, or is 0",
        "Beyond the cap the weights no longer correct, and the gradient is biased.",
        "Sample in the trainer's type (sampler.dtype), or weigh tokens instead of sequences (mismatch.level=token).",
    ),
}


@register("monitor", "ratio")
@dataclass(kw_only=True)
class Ratio(Monitor):
    """Ratios of probabilities are far from 1 on more than `share` of the tokens, in the mean of `window` iterations.

    Those of new to old (`clip/fraction`), which the surrogate clips, and those of trainer to sampler
    (`mismatch/capped`), which are cut at a cap.
    """

    share: float = 0.3
    """Largest share of tokens whose ratio is clipped or capped."""
    window: int = 2
    """Iterations in the mean."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        for ending, (what, why, remedy) in MEANING.items():
            for key in keys_ending(metrics, ending):
                values = series(key, metrics, history)[-self.window :]
                if len(values) == self.window and fmean(values) > self.share:
                    figure = f"on {fmean(values):.0%} of the tokens ({key}) {what}"
                    return EarlyWarning(metric=key, value=fmean(values), figure=figure, why=why, remedy=remedy)
        return None
