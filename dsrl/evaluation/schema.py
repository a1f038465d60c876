"""The typed configuration of an evaluation; the docstring under a field says what it is for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import II

from dsrl.config.schema import ModelConfig, SamplingConfig


@dataclass(kw_only=True)
class EvaluationSchema:
    """The root of an evaluation (`python -m dsrl.evaluate`)."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: Any = None
    sampler: Any = None
    verifier: Any = None
    thoughts: Any = II("model.thoughts")
    """Thoughts that are counted in every answer: NAME, or {name: NAME, parameter: value}."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    checkpoint: str | None = None
    """Checkpoint whose weights take the place of those of model.name."""
    k: int | None = None
    """Responses to each question; null: as often as its file repeats it, else 8."""
    limit: int | None = None
    """Questions of each set that are asked, the first ones; null: all."""
    questions_per_batch: int | None = None
    """Questions that are sampled, checked and written together; null: 16, or as many as keep an engine full."""
    accelerator: str = "auto"
    """Kind of device: auto, cpu, gpu, cuda, mps."""
    devices: int = 1
    """Processes that share the questions, each with its own GPU, or its share of the cores of a CPU."""
    seed: int = 0
    """Seed of all draws."""
    run_dir: str = "runs/latest"
    """Folder of the evaluation's files."""
    resume: str | None = None
    """Folder of an evaluation to go on with."""
