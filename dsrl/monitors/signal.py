"""Monitor `signal`: iterations from which nothing can be learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.monitors.series import is_measured
from dsrl.registry import register


@register("monitor", "signal")
@dataclass(kw_only=True)
class Signal(Monitor):
    """In each of `window` iterations, `share` of the groups were all wrong, or all right, or of equal rewards.

    Groups of equal rewards are those of which the model scores nothing (`scored/fraction`). Rewards that are no 0 and 1
    differ even where no response counts as correct: there `reward/std` is not near 0, and all is well.
    """

    share: float = 0.95
    """Share of groups without a signal."""
    window: int = 3
    """Iterations in a row."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        if not is_measured("group/all_wrong", metrics):  # no response has a reward
            return None
        judged = [numbers for numbers in (*history, metrics) if is_measured("group/all_wrong", numbers)]
        recent = judged[-self.window :]
        if len(recent) < self.window or not all(map(self._silent, recent)):
            return None
        wrong = metrics["group/all_wrong"] >= metrics["group/all_right"]
        key = "group/all_wrong" if wrong else "group/all_right"
        return EarlyWarning(
            metric=key,
            value=metrics[key],
            figure=f"{metrics[key]:.0%} of the questions had {'no' if wrong else 'only'} right answers, and hardly any "
            f"group differed in its rewards, {self.window} iterations in a row",
            why="An advantage compares the answers to one question; where all are worth the same, there is nothing to "
            "learn.",
            remedy="Look at response/truncated and samples.jsonl first: a verifier that cannot read the answers looks "
            "the same. Else ask easier questions, or sample more answers (responses_per_prompt)."
            if wrong
            else "Ask harder questions, leave out those that are always right (curriculum.always_right), or replace "
            "such groups (dynamic_sampling).",
        )

    def _silent(self, numbers: Numbers) -> bool:
        same = max(numbers["group/all_wrong"], numbers["group/all_right"]) >= self.share
        return (same and numbers["reward/std"] < 0.25) or numbers["scored/fraction"] <= 1 - self.share
