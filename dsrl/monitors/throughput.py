"""Monitor `throughput`: a run that gets slower and slower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dsrl.monitors.monitor import EarlyWarning, Monitor, Numbers
from dsrl.registry import register

STAGES = ("sample", "verify", "score", "update", "sync")


@register("monitor", "throughput")
@dataclass(kw_only=True)
class Throughput(Monitor):
    """Sampled tokens a second, over the stages of an iteration, are below `fall` times what they were.

    The medians of the last `window` iterations and of the first `window` of the phase are compared, so that an
    iteration that something else held up is no warning. Validations and checkpoints are not counted. It reads the time,
    so that it alone may warn of one run and not of its repetition.
    """

    fall: float = 0.5
    """Smallest number of tokens a second, as a multiple of that at the phase's start."""
    window: int = 10
    """Iterations in the medians that are compared."""

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """See the class."""
        if len(history) + 1 < 2 * self.window:
            return None
        first, last = history[: self.window], [*history[len(history) + 1 - self.window :], metrics]
        start, now = (median(map(_tokens_per_second, part)) for part in (first, last))
        if now >= self.fall * start:
            return None
        times = {
            stage: tuple(median(_seconds_a_token(numbers, stage) for numbers in part) for part in (first, last))
            for stage in STAGES
        }
        slowest = max(times, key=lambda stage: times[stage][1] - times[stage][0])
        return EarlyWarning(
            metric="throughput/tokens_per_second",
            value=now,
            figure=f"{now:.0f} tokens a second, where the phase began with {start:.0f}; most of the loss is in "
            f"time/{slowest}",
            why="The rest of the run takes so much longer, and what slows it may be about to end it: memory that runs "
            "out, a verifier that hangs, another process.",
            remedy="See what else runs on the machine, and whether responses have grown (response/length_mean); "
            "trainer.profiler=simple writes where the time goes.",
        )


def _tokens_per_second(numbers: Numbers) -> float:
    return numbers["tokens/sampled"] / max(1e-9, sum(numbers.get(f"time/{stage}", 0.0) for stage in STAGES))


def _seconds_a_token(numbers: Numbers, stage: str) -> float:
    return numbers.get(f"time/{stage}", 0.0) / max(1.0, numbers["tokens/sampled"])
