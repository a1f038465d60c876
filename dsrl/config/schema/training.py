"""An iteration: sampling, update, corrections, validation, and what a later phase changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import II, MISSING

from dsrl.config.settled import Settled


@dataclass(kw_only=True)
class SamplingConfig(Settled):
    """How responses are sampled."""

    max_new_tokens: int = II("model.max_new_tokens")
    """Longest response, in tokens."""
    temperature: float = 1.0
    """Temperature; above 0 in training."""
    top_p: float = 1.0
    """Nucleus: the smallest set of tokens of this probability is sampled from; 1: all tokens."""
    top_k: int = 0
    """The number of likeliest tokens that are sampled from; 0: all tokens."""
    stop: list[str] = field(default_factory=list)
    """Tokens that end a response, beside the model's own."""

    @property
    def restricted(self) -> bool:
        """Whether top_p or top_k leave out tokens, so that responses are not drawn from P(y|x) itself."""
        return self.top_p < 1 or self.top_k > 0


@dataclass(kw_only=True)
class OptimizerConfig(Settled):
    """AdamW and its learning rate."""

    lr: float = II("model.lr")
    """Learning rate."""
    weight_decay: float = 0.01
    """Weight decay, decoupled."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Decay rates of the two moments."""
    eps: float = 1e-8
    """Added to the denominator."""
    schedule: str = "constant"
    """Learning rate from a phase's first iteration to the run's last: constant, linear, cosine."""
    warmup: int = 0
    """Iterations at the beginning of a phase in which the learning rate rises from 0."""


@dataclass(kw_only=True)
class UpdateConfig(Settled):
    """How a batch of rollouts becomes optimizer steps: minibatches x epochs of them."""

    micro_batch_tokens: Any = 8192
    """Tokens in a forward and backward pass, padding included; bounds memory alone; auto: the most that fit."""
    share_prompts: bool = True
    """Read a prompt once for its responses, where the model can and it is cheaper; changes no result."""
    minibatches: int = 1
    """Optimizer steps in an epoch over the rollouts."""
    epochs: int = 1
    """Times that the rollouts of an iteration are used."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0: not clipped."""
    on_nonfinite: str = "stop"
    """What a gradient with a NaN or an infinity does: stop ends the run, skip leaves the optimizer step out."""
    max_skipped: int = 3
    """Optimizer steps that may be left out in a row; one more ends the run."""


@dataclass(kw_only=True)
class MismatchConfig(Settled):
    """The sampler's probabilities against the trainer's: measured, and corrected in the conditional space."""

    every: int = 10
    """Iterations between measurements, where the objective does not need the pass anyway; 0: none."""
    correction: str = "auto"
    """Importance weights: on, off; auto: on where the sampler does not compute as the trainer does."""
    level: str = "token"
    """What has a weight: token, sequence."""
    mode: str = "truncate"
    """What becomes of weights above the cap: truncate takes the cap, mask takes 0."""
    cap: float = 2.0
    """Largest weight."""


@dataclass(kw_only=True)
class InitialKLConfig(Settled):
    """KL of the policy to the one that the run began with, a metric: kl/initial."""

    every: int = 0
    """Iterations between measurements, two passes without gradient and a frozen copy of the model; 0: none."""


@dataclass(kw_only=True)
class ValidationConfig(Settled):
    """avg@k and pass@j on data.val: before the first iteration, every few iterations, and at the end."""

    every: int = 10
    """Iterations between validations; 0: no validation at all."""
    k: int = 4
    """Responses to each question."""
    temperature: float = 1.0
    """Temperature; 0: greedy."""


@dataclass(kw_only=True)
class CurriculumConfig(Settled):
    """How often a question is asked when its turn comes; where it is not, a random other one takes its place."""

    always_right: float = 1.0
    """Probability to ask a question whose last responses were all right."""
    always_wrong: float = 1.0
    """Probability to ask a question whose last responses were all wrong."""


@dataclass(kw_only=True)
class PhaseSamplingConfig(SamplingConfig):
    """Sampling of a later phase: that of the run, unless overridden."""

    max_new_tokens: int = II("sampling.max_new_tokens")
    temperature: float = II("sampling.temperature")
    top_p: float = II("sampling.top_p")
    top_k: int = II("sampling.top_k")
    stop: list[str] = II("sampling.stop")


@dataclass(kw_only=True)
class PhaseConfig(Settled):
    """A phase after the first."""

    objective: Any = None
    """Objective of the phase; chosen by +phase2=NAME."""
    start: Any = field(default=MISSING, metadata={"needs": "the iteration in which it begins, or a condition"})
    """Iteration (from 0) in which the phase begins, or a condition: {name: drop, by: 0.1}."""
    lr: float = II("optimizer.lr")
    """Learning rate."""
    schedule: str = II("optimizer.schedule")
    """Learning rate to the run's last iteration: constant, linear, cosine."""
    warmup: int = II("optimizer.warmup")
    """Iterations in which the learning rate rises from 0."""
    reset_optimizer: bool = True
    """Clear the optimizer's moments when the phase begins."""
    sync_reference: bool = True
    """Copy the policy into the reference model when the phase begins."""
    sampling: PhaseSamplingConfig = field(default_factory=PhaseSamplingConfig)
