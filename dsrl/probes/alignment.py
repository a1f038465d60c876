"""Probe `alignment`: do P(y) and P(y|x) learn the same?"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsrl.config.schema import TrainerConfig
from dsrl.devices import SHARDED
from dsrl.errors import ConfigError
from dsrl.loop.probe import AfterStep, Probe, Subject
from dsrl.loop.stopwatch import Stopwatch
from dsrl.parallel.collectives import all_max, gather
from dsrl.probes.by_prompt import Sums, estimated, everywhere, metrics_of
from dsrl.probes.groups import GROUPINGS, Grouping
from dsrl.registry import register
from dsrl.types import Metric, Metrics

if TYPE_CHECKING:
    from dsrl.probes.logits import TokenPairs
    from dsrl.probes.samples import SampleProducts

LEVELS = (0, 1, 2, 3)
PREFIX = "probe/alignment/"
BOUNDED = re.compile(r"known|difference|logits/\w+|step/.*|sample/\w+(/right|/wrong)?")
"""Metrics that have an interval. Bins of tokens and groups of parameters have none, as there are many."""


@dataclass(kw_only=True, slots=True)
class Observed:
    """What levels 0 to 2 found on this rank.

    Args:
        sums: for each of its prompts.
        directions: of level 1, over all ranks.
        tokens: of level 0.
        samples: of level 2.
        seconds: of each level.
    """

    sums: Sums = field(default_factory=dict)
    directions: dict[str, float] = field(default_factory=dict)
    tokens: TokenPairs | None = None
    samples: SampleProducts | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> Metrics:
        """What is no sum over prompts."""
        found = {name: Metric(value) for name, value in self.directions.items()}
        if self.samples is None:
            return found
        measured = len(self.samples.numbers)  # a rank without any says nothing
        return found | {"covered": Metric(self.samples.covered * measured, measured)}


@register("probe", "alignment")
@dataclass(kw_only=True)
class Alignment(Probe):
    """Compare the gradients of log P(y) and log P(y|x), the first claim of arXiv 2604.14142.

    Level 0 compares them in logits, by forward passes. Level 1 compares the gradients of objectives on halves of the
    prompts, level 2 those of each response, level 3 log-probabilities before and after the step.
    """

    levels: list[int] = field(default_factory=lambda: [0, 1])
    """What is measured: 0 tokens in logits, 1 gradients of objectives, 2 those of each response, 3 the step taken."""
    groups: str = "kinds"
    """Groups of parameters: kinds (embeddings, attention, mlp, norms, head), or blocks (those of each block apart)."""
    known_share: float = 0.5
    """P(y) can know a token where P(y_t) is at least this share of P(y_t|x)."""
    samples: int = 64
    """Responses of levels 2 and 3, at most: those to the first prompts of all ranks, whole groups."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.levels or any(level not in LEVELS for level in self.levels):
            raise ConfigError(f"levels={self.levels}: allowed are some of {', '.join(map(str, LEVELS))}")
        if self.groups not in GROUPINGS:
            raise ConfigError(f"groups={self.groups}: allowed are {', '.join(GROUPINGS)}")
        if not 0 < self.known_share <= 1:
            raise ConfigError(f"known_share={self.known_share}: must be in (0, 1]")
        if self.samples < 1:
            raise ConfigError(f"samples={self.samples}: must be at least 1")

    def check(self, trainer: TrainerConfig) -> list[str]:
        """Refuse level 2 where ranks hold parts of the weights, or where blocks are compiled."""
        away = "leave 2 out, or measure the run's checkpoints: python -m dsrl.align model=CHECKPOINT"
        problems = []
        if 2 in self.levels and trainer.strategy in SHARDED:
            problems.append(
                f"probe.levels={self.levels}: level 2 runs each rank by itself, which needs full weights, and "
                f"trainer={trainer.strategy} deals them out; {away}"
            )
        if 2 in self.levels and trainer.compile:
            problems.append(f"probe.levels={self.levels}: level 2 looks into blocks, and trainer.compile=true; {away}")
        return problems

    def measure(self, subject: Subject) -> Metrics:
        """Measure levels 0 to 2. A collective."""
        found = self.observe(subject)
        estimates = estimated(everywhere(found.sums, subject.experience.batch.rollouts))
        return {f"{PREFIX}{name}": metric for name, metric in (found.metrics | metrics_of(estimates, BOUNDED)).items()}

    def observe(self, subject: Subject) -> Observed:
        """Measure levels 0 to 2 of this rank's responses. A collective."""
        from dsrl.probes.directions import directions_of  # seconds, which the command line's help does not need
        from dsrl.probes.gradients import measure_gradients
        from dsrl.probes.logits import compare_tokens, token_sums
        from dsrl.probes.samples import measure_samples, sample_sums

        batch, found = subject.experience.batch, Observed()
        clock = Stopwatch()
        if 0 in self.levels:
            with clock("level0"):
                found.tokens = compare_tokens(subject)
            found.sums |= token_sums(found.tokens, batch.rollouts.mask, len(batch.rewards), self.known_share)
        if 1 in self.levels:
            with clock("level1"):
                found.directions = directions_of(measure_gradients(subject, self.grouping(subject)))
        if 2 in self.levels:
            numbers = self.chosen(subject).nonzero()[:, 0].tolist()
            with clock("level2"):
                found.samples = measure_samples(subject, numbers, self.grouping(subject))
            found.sums |= sample_sums(found.samples, batch.rewards)
        found.seconds = clock.seconds
        return found

    def watch_step(self, subject: Subject) -> AfterStep:
        """Measure level 3. A collective, and so is what it returns."""
        if 3 not in self.levels:
            return dict
        from dsrl.probes.step import score_responses, step_sums

        rows, batch = self.chosen(subject), subject.experience.batch
        before = score_responses(subject, rows)

        def after_step() -> Metrics:
            changes = step_sums(before, score_responses(subject, rows), rows, batch.rewards)
            estimates = estimated(everywhere(changes, batch.rollouts))
            return {f"{PREFIX}{name}": metric for name, metric in metrics_of(estimates, BOUNDED).items()}

        return after_step

    def grouping(self, subject: Subject) -> Grouping:
        """Make the groups of the policy's parameters."""
        return Grouping(subject.scorer.policy.model, self.groups)

    def chosen(self, subject: Subject) -> Tensor:
        """Choose the responses of levels 2 and 3, bool [N]. A collective."""
        rollouts = subject.experience.batch.rollouts
        size = int(all_max(rollouts.responses_per_prompt))
        own = [prompt.position for prompt in rollouts.prompts]
        first = sorted(position for positions in gather(own) for position in positions)[: max(1, self.samples // size)]
        return torch.tensor([position in set(first) for position in own]).repeat_interleave(size)
