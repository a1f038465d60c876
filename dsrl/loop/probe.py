"""Probes: what can be measured of an iteration between scoring and update, and after the update, changing nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsrl.config.schema import TrainerConfig
from dsrl.errors import ConfigError
from dsrl.loop.stopwatch import Stopwatch
from dsrl.objectives import Objective
from dsrl.registry.blame import PartError, label_of
from dsrl.registry.returned import expect
from dsrl.types import Metric, Metrics

if TYPE_CHECKING:
    from dsrl.loop.experience import Experience
    from dsrl.loop.scorer import Scorer

AfterStep = Callable[[], Metrics]
"""What is called once the optimizer has stepped, and returns what the steps did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What a probe looks at: one iteration on this rank, before its update.

    Args:
        experience: the rollouts, their rewards, and what the running objective made of them.
        objective: the running objective.
        scorer: has the policy, and scores responses in any space.
        alone: makes the context of a backward pass whose gradients stay on this rank, where ranks hold full weights.
            Sharded weights reduce theirs in every backward pass, which is a collective.
    """

    experience: Experience
    objective: Objective
    scorer: Scorer
    alone: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(kw_only=True)
class Probe:
    """Measure an iteration. This is the base class; a subclass implements `measure`, `watch_step`, or both.

    Every rank calls both, so that they may use collectives. A probe changes nothing of the run: it leaves weights and
    optimizer alone. Gradients and random states that it leaves behind are dropped for it.
    """

    every: int = 1
    """Iterations from one measurement to the next; the first is measured."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"every={self.every}: must be at least 1 iteration")

    def check(self, trainer: TrainerConfig) -> list[str]:
        """List what speaks against it on these ranks and devices, before anything is loaded."""
        return []

    def measure(self, subject: Subject) -> Metrics:
        """Measure an iteration between scoring and update."""
        return {}

    def watch_step(self, subject: Subject) -> AfterStep:
        """Measure what the update will change, and return what measures it again afterwards; called before it."""
        return dict


def run_probe(probe: Probe, subject: Subject, clock: Stopwatch) -> tuple[Metrics, AfterStep]:
    """Measure an iteration, and leave the run as it was. A collective.

    Returns:
        What was measured, and what is to be called after the update.
    """
    from lightning.pytorch.utilities.seed import isolate_rng  # seconds, which the command line's help does not need

    from dsrl.parallel.sharding import drop_gradients

    @contextmanager
    def unseen() -> Iterator[None]:
        with clock("probe"), isolate_rng():
            yield
            drop_gradients(subject.scorer.policy.model)

    with unseen():
        found, after_step = _checked(probe, probe.measure(subject)), probe.watch_step(subject)
    if not callable(after_step):
        raise PartError(f"{label_of(probe, 'probe')}: watch_step must return a function, not {after_step!r:.60}")

    def after() -> Metrics:
        with unseen():
            return _checked(probe, after_step())

    return found, after


def _checked(probe: Probe, found: Any) -> Metrics:
    """What a probe measured, if these are metrics. Raises PartError."""
    metrics: Metrics = expect(found, dict, owner=probe, kind="probe", what="metrics, {name: Metric}")
    for name, metric in metrics.items():
        if not isinstance(metric, Metric):
            raise PartError(
                f"{label_of(probe, 'probe')}: metric '{name}' must be a Metric, a sum and a count "
                f"(Metric.mean(values, mask)), not {type(metric).__name__}"
            )
    return metrics
