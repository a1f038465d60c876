"""The typed configurations of an evaluation and of a measurement; the docstring under a field says what it is for."""

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


@dataclass(kw_only=True)
class AlignSchema:
    """The root of a measurement of alignment (`python -m dsrl.align`)."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: Any = None
    sampler: Any = None
    verifier: Any = None
    objective: Any = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    checkpoint: str | None = None
    """Checkpoint whose weights take the place of those of model.name."""
    levels: list[int] = field(default_factory=lambda: [0, 1, 2])
    """What is measured: 0 tokens in logits, 1 gradients of objectives, 2 those of each response."""
    groups: str = "blocks"
    """Groups of parameters: blocks (attention, mlp and norms of each block), or kinds (those of all blocks)."""
    known_share: float = 0.5
    """P(y) can know a token where P(y_t) is at least this share of P(y_t|x)."""
    limit: int = 64
    """Questions that are asked in all, those that a run of this seed would ask first."""
    batches: int = 1
    """Batches that the questions are dealt into, each halved for level 1; gains have an interval over several."""
    k: int = 8
    """Responses to each question."""
    samples: int | None = None
    """Responses of level 2, of each batch: whole groups of its first questions; null: all."""
    micro_batch_tokens: int = 8192
    """Tokens in a pass of levels 0 and 1, at most."""
    accelerator: str = "auto"
    """Kind of device: auto, cpu, gpu, cuda, mps."""
    seed: int = 0
    """Seed of all draws."""
    out: str | None = None
    """File that the results are written to, as JSON."""
    json: bool = False
    """Print the results as JSON, in place of tables."""
