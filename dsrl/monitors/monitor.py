"""The base class of monitors, and the early warning that they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsrl.errors import ConfigError, nearest
from dsrl.registry.returned import expect

ACTIONS = ("off", "warn", "handoff", "stop")
Numbers = Mapping[str, float]
"""The metrics of one iteration, over all ranks, as its line in metrics.jsonl has them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyWarning:
    """Say what goes wrong, before it has gone wrong.

    Args:
        metric: the key of metrics.jsonl that shows it.
        value: its value, as the monitor saw it.
        figure: what was measured, in words.
        why: why that matters.
        remedy: what to do.
    """

    metric: str
    value: float
    figure: str
    why: str
    remedy: str


@dataclass(kw_only=True)
class Monitor:
    """Watch the metrics of a run. This is the base class; a subclass implements `observe`.

    A monitor is pure: it keeps nothing from one iteration to the next, so that a resumed run is warned as one that was
    never interrupted.
    """

    action: str = "warn"
    """What a warning does: off, warn, handoff (the next phase begins), stop (the run ends with a checkpoint)."""

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ConfigError(
                f"action={self.action}: allowed are {', '.join(ACTIONS)}.{nearest(str(self.action), ACTIONS)}"
            )
        window = getattr(self, "window", 1)
        if window < 1:
            raise ConfigError(f"window must be at least 1 iteration, not {window}")

    def observe(self, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
        """Say whether something goes wrong.

        Args:
            metrics: the numbers of the iteration that has ended; those of a validation only where it ran.
            history: those of the iterations before it in the running phase, oldest first.

        Returns:
            The warning; None where all is well, or too little is known yet.
        """
        raise NotImplementedError


def ask(monitor: Monitor, metrics: Numbers, history: Sequence[Numbers]) -> EarlyWarning | None:
    """Ask a monitor, and check what it says. Raises PartError where that is neither a warning nor None."""
    said = monitor.observe(metrics, history)
    if said is None:
        return None
    expect(said, EarlyWarning, owner=monitor, kind="monitor", what="an EarlyWarning, or None")
    return said
