"""The configuration of a run, with its parts built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.config.schema import (
    CheckpointConfig,
    CurriculumConfig,
    InitialKLConfig,
    MismatchConfig,
    ModelConfig,
    OptimizerConfig,
    PlanConfig,
    TrainerConfig,
    UpdateConfig,
    ValidationConfig,
)
from dsrl.config.settled import Settled
from dsrl.data.source import DataSource
from dsrl.devices import precision_of
from dsrl.monitors import Monitor
from dsrl.phases.phase import Phase
from dsrl.samplers import Sampler
from dsrl.thoughts import Thoughts

EXACT = ("float32", "float32", "32-true")
"""Type of the sampler's numbers, of the policy's, and precision of the trainer that agree to the last bits."""


@dataclass(kw_only=True)
class RunConfig(Settled):
    """What a run needs, derived from one composed tree. `dsrl.config.schema` says what its fields mean.

    Its fields cannot be set: compose another. `resolved` is the tree as plain values, what config.yaml holds.
    """

    phases: list[Phase]
    model: ModelConfig
    data: DataSource
    sampler: Sampler
    verifier: Any
    thoughts: Thoughts
    trainer: TrainerConfig
    logger: dict[str, Any]
    callbacks: dict[str, Any]
    iterations: int
    prompts_per_iteration: int
    responses_per_prompt: int
    dynamic_sampling: int
    curriculum: CurriculumConfig
    optimizer: OptimizerConfig
    update: UpdateConfig
    mismatch: MismatchConfig
    initial_kl: InitialKLConfig
    validation: ValidationConfig
    checkpoint: CheckpointConfig
    plan: PlanConfig
    monitors: dict[str, Monitor]
    probe: Any
    logged_samples: int
    logged_tokens: int
    record: str
    report: bool
    seed: int
    run_dir: Path
    resume: str | None
    resolved: dict[str, Any]

    @property
    def needs_reference(self) -> bool:
        """Whether any phase compares with a frozen reference model."""
        terms = [term for phase in self.phases for _, term in phase.objective.terms]
        return any(term.needs_reference or term.reward_kl is not None for term in terms)

    @property
    def frozen_copies(self) -> int:
        """How many frozen copies of the model a rank holds: the reference, and the initial policy where `initial_kl`
        compares with it and no reference stays what it was at the beginning.
        """
        synced = any(phase.sync_reference for phase in self.phases[1:])
        initial = self.initial_kl.every > 0 and (synced or not self.needs_reference)
        return int(self.needs_reference) + int(initial)

    @property
    def exact(self) -> bool:
        """Whether sampler and trainer compute the same probabilities, but for the last bits.

        They do where the sampler has no `compute_dtype` of its own, since it is the policy or computes as it does, and
        where both compute in float32.
        """
        compute_dtype = self.sampler.compute_dtype
        return compute_dtype is None or (compute_dtype, self.model.dtype, precision_of(self.trainer)) == EXACT

    @property
    def steps_per_iteration(self) -> int:
        """Optimizer steps on one batch of rollouts."""
        return self.update.minibatches * self.update.epochs
