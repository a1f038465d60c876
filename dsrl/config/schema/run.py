"""The root of a run (`python train.py`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import II

from dsrl.config.schema.model import ModelConfig
from dsrl.config.schema.trainer import CheckpointConfig, PlanConfig, TrainerConfig
from dsrl.config.schema.training import (
    CurriculumConfig,
    InitialKLConfig,
    MismatchConfig,
    OptimizerConfig,
    SamplingConfig,
    UpdateConfig,
    ValidationConfig,
)


@dataclass(kw_only=True)
class TrainSchema:
    """The root of a run (`python train.py`)."""

    objective: Any = None
    phase2: Any = None
    phase3: Any = None
    phase4: Any = None
    phase5: Any = None
    model: ModelConfig = field(default_factory=ModelConfig)
    data: Any = None
    sampler: Any = None
    verifier: Any = None
    thoughts: Any = II("model.thoughts")
    """Thoughts that are counted in every response: NAME, or {name: NAME, parameter: value}; changes nothing else."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=dict)
    """Loggers of Lightning: logger=NAME or [a,b], or +logger.mine._target_=CLASS."""
    callbacks: dict[str, Any] = field(default_factory=dict)
    """Callbacks of Lightning: callbacks=NAME or [a,b], or +callbacks.mine._target_=CLASS."""
    iterations: int = 40
    """Iterations of the run: batches of prompts that are sampled, checked and learned from."""
    prompts_per_iteration: int = 64
    """Prompts in an iteration, over all ranks (B)."""
    responses_per_prompt: int = 8
    """Responses to each prompt (G)."""
    dynamic_sampling: int = 0
    """Times, at most, that groups of equal rewards are replaced by those of other prompts; 0: never."""
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    mismatch: MismatchConfig = field(default_factory=MismatchConfig)
    initial_kl: InitialKLConfig = field(default_factory=InitialKLConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    monitors: dict[str, Any] = field(default_factory=dict)
    """Early warnings, monitors.NAME.action=off, warn, handoff or stop; every registered one warns by default."""
    probe: Any = None
    """What is measured of some iterations, without changing them: +probe=alignment probe.every=5; null: nothing."""
    logged_samples: int = 8
    """Rollouts of each iteration, and of each set of a validation, that are written to samples.jsonl."""
    logged_tokens: int = 1024
    """Tokens of each of these rollouts of training, at most, with log P(y) and log P(y|x) in samples.jsonl; 0: none."""
    record: str = "none"
    """Rollouts that are kept whole in run_dir/rollouts, for sampler=replay: none, all."""
    report: bool = True
    """Write report.html when the run ends; `python -m dsrl.report RUN` writes it at any time."""
    seed: int = 0
    """Seed of all draws."""
    run_dir: str = "runs/latest"
    """Folder of the run's files; must not hold a run, unless resume=last."""
    resume: str | None = None
    """Checkpoint to go on from, or last: the newest in run_dir."""
