"""When a phase ends, if not at a given iteration: `phase2.start={name: drop, metric: reward/mean, by: 0.1}`.

A condition is a pure function of what the watched metric has been since the running phase began.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dsrl.errors import ConfigError
from dsrl.registry import register


@dataclass(kw_only=True)
class Condition:
    """Base of conditions. `metric` is a key of metrics.jsonl (a validation metric has a value only where it ran).

    The next phase begins once the running one has had at least `earliest` iterations and `met` says so, and at the
    latest after `latest` iterations, where that is given.
    """

    metric: str = "reward/mean"
    earliest: int = 1
    latest: int | None = None

    def __post_init__(self) -> None:
        if self.earliest < 1:
            raise ConfigError(f"earliest must be at least 1 iteration, not {self.earliest}")
        if self.latest is not None and self.latest < self.earliest:
            raise ConfigError(f"latest={self.latest} comes before earliest={self.earliest}")

    def due(self, ran: int, history: Sequence[float]) -> bool:
        """Whether to hand off, after `ran` iterations of the phase with these values of the metric, oldest first. A
        mean of nothing, which is NaN, is left out.
        """
        if ran < self.earliest:
            return False
        return (self.latest is not None and ran >= self.latest) or self.met(_known(history))

    def met(self, history: Sequence[float]) -> bool:
        """Whether the metric's values, of which none is NaN, call for the next phase."""
        raise NotImplementedError

    def reason(self, ran: int, history: Sequence[float]) -> str:
        """Say why the phase ends where it is `due`, for people."""
        if self.latest is not None and ran >= self.latest:
            return f"latest={self.latest}: it had {ran} iterations"
        return self.finding(_known(history))

    def finding(self, history: Sequence[float]) -> str:
        """Say what `met` saw: the metric and its value, and in a subclass what that is compared with."""
        return f"{self.metric} is {history[-1]:.4g}" if history else f"{self.metric} has no value"


def _known(history: Sequence[float]) -> list[float]:
    return [value for value in history if not math.isnan(value)]


@register("condition", "threshold")
@dataclass(kw_only=True)
class Threshold(Condition):
    """The metric's last value is above `above`, or below `below`."""

    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.above is None and self.below is None:
            raise ConfigError("give above=VALUE or below=VALUE")

    def met(self, history: Sequence[float]) -> bool:
        """See the class."""
        if not history:
            return False
        over = self.above is not None and history[-1] > self.above
        return over or (self.below is not None and history[-1] < self.below)

    def finding(self, history: Sequence[float]) -> str:
        """See the base class."""
        over = self.above is not None and history[-1] > self.above
        bound = f"above {self.above:.4g}" if over else f"below {self.below:.4g}"
        return f"{super().finding(history)}, {bound}"


@register("condition", "plateau")
@dataclass(kw_only=True)
class Plateau(Condition):
    """The metric has not risen above its best before by more than `min_delta` in its last `patience` values."""

    patience: int = 5
    min_delta: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience < 1:
            raise ConfigError(f"patience must be at least 1, not {self.patience}")
        if not self.min_delta >= 0:
            raise ConfigError(f"min_delta must be at least 0, not {self.min_delta}")

    def met(self, history: Sequence[float]) -> bool:
        """See the class."""
        before, recent = history[: -self.patience], history[-self.patience :]
        return bool(before) and max(recent) <= max(before) + self.min_delta

    def finding(self, history: Sequence[float]) -> str:
        """See the base class."""
        best = max(history[: -self.patience])
        return (
            f"{self.metric} has not risen above {best:.4g} by {self.min_delta:.4g} in its last {self.patience} values"
        )


@register("condition", "drop")
@dataclass(kw_only=True)
class Drop(Condition):
    """The metric has fallen by more than `by` from its best.

    Suppression in P(y) is unbounded and destroys a model that stays too long: this leaves the phase in time. Means
    over `window` values are compared, since one batch's reward is noisy.
    """

    by: float = 0.05
    window: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise ConfigError(f"window must be at least 1, not {self.window}")
        if not self.by >= 0:
            raise ConfigError(f"by must be at least 0, not {self.by}")

    def met(self, history: Sequence[float]) -> bool:
        """See the class."""
        means = self._means(history)
        return bool(means) and max(means) - means[-1] > self.by

    def finding(self, history: Sequence[float]) -> str:
        """See the base class."""
        means = self._means(history)
        return f"{self.metric} fell from {max(means):.4g} to {means[-1]:.4g}, by more than {self.by:.4g}"

    def _means(self, history: Sequence[float]) -> list[float]:
        return [sum(history[end - self.window : end]) / self.window for end in range(self.window, len(history) + 1)]
