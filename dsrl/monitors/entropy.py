"""Monitor `entropy`: a model that writes the same whatever it is asked, or anything at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.monitors.series import change_of, keys_ending
from dsrl.registry import register


@register("monitor", "entropy")
@dataclass(kw_only=True)
class Entropy(Monitor):
    """The entropy of a token, in a space that the objective scores or of all responses as they were sampled, has left
    its range since the phase began.

    Above `rise` times its start the model forgets how to write, as suppression in P(y) ends; below `fall` times its
    start, without more reward, it writes the same again and again, and sampling finds nothing new. Entropy that falls
    while the reward rises is learning.
    """

    rise: float = 1.3
    """Largest entropy, as a multiple of that at the phase's start."""
    fall: float = 0.5
    """Smallest entropy, as a multiple of that at the phase's start, where the reward has not risen."""
    gain: float = 0.05
    """Rise of the mean reward that counts as learning."""
    window: int = 2
    """Iterations in the means that are compared."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        reward = change_of("reward/mean", metrics, history, self.window)
        for key in keys_ending(metrics, "entropy"):
            entropy = change_of(key, metrics, history, self.window)
            if entropy is None or reward is None:
                continue
            figure = f"{key} went from {entropy.start:.3g} to {entropy.now:.3g} nats a token since the phase began"
            if entropy.now > self.rise * entropy.start:
                return EarlyWarning(
                    metric=key,
                    value=entropy.now,
                    figure=figure,
                    why="The model is losing its language; suppression has no lower bound, and this ends in no right "
                    "answer at all.",
                    remedy="End the phase earlier (phase2.start, or monitors.entropy.action=handoff), or lower its "
                    "learning rate.",
                )
            if entropy.now < self.fall * entropy.start and reward.now < reward.start + self.gain:
                return EarlyWarning(
                    metric=key,
                    value=entropy.now,
                    figure=f"{figure}, and reward/mean from {reward.start:.2f} to {reward.now:.2f}",
                    why="The model writes nearly the same every time without being right more often, so that groups "
                    "have nothing to learn from.",
                    remedy="Lower the learning rate, raise objective.surrogate.clip_high, or add a KL "
                    "(objective.kl.coefficient).",
                )
        return None
