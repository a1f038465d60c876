"""What must hold between fields. Every check says the field, its value, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dsrl.config.schema import SamplingConfig
from dsrl.errors import ConfigError, nearest
from dsrl.models.loading import missing_model
from dsrl.objectives import Objective, PolicyGradient
from dsrl.objectives.kl import KLPenalty
from dsrl.phases import SCHEDULES, Phase
from dsrl.registry import build
from dsrl.types import Counts, LossBatch

if TYPE_CHECKING:
    from dsrl.config.run_config import RunConfig

DTYPES = ("float32", "bfloat16", "float16")
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-true")
STRATEGIES = ("auto",)
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def problems_of(config: RunConfig) -> list[str]:
    """Everything that is wrong with a configuration, one message each."""
    problems = [*_values(config.resolved), *_sizes(config), *_choices(config), *_phases(config)]
    for phase in config.phases:
        problems += _sampling(phase)
        problems += _objective(phase, config)
    for part in (config.data, config.sampler, config.verifier):
        problems += getattr(part, "check", list)()
    if problem := missing_model(config.model):
        problems.append(problem)
    if config.resume not in (None, "last") and not Path(str(config.resume)).is_file():
        problems.append(f"resume={config.resume}: no such checkpoint; `last` is the newest in run_dir")
    if config.resume is None and (config.run_dir / "config.yaml").exists():
        problems.append(
            f"run_dir={config.run_dir}: holds a run already; choose another, or go on with it by resume=last"
        )
    return problems


def _values(node: Any, key: str = "") -> Iterator[str]:
    """Values that are missing or not finite, anywhere."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _values(value, f"{key}.{name}" if key else str(name))
    elif node == "???":
        yield f"{key} is required"
    elif isinstance(node, float) and not math.isfinite(node):
        yield f"{key}={node}: must be a finite number"


def _sizes(config: RunConfig) -> Iterator[str]:
    at_least = {
        "iterations": (config.iterations, 1),
        "prompts_per_iteration": (config.prompts_per_iteration, 1),
        "responses_per_prompt": (config.responses_per_prompt, 1),
        "samples_per_iteration": (config.samples_per_iteration, 0),
        "update.max_tokens": (config.update.max_tokens, 1),
        "update.minibatches": (config.update.minibatches, 1),
        "update.epochs": (config.update.epochs, 1),
        "update.clip_norm": (config.update.clip_norm, 0),
        "validation.every": (config.validation.every, 0),
        "validation.k": (config.validation.k, 1),
        "validation.temperature": (config.validation.temperature, 0),
        "checkpoint.every": (config.checkpoint.every, 0),
        "checkpoint.keep": (config.checkpoint.keep, 1),
        "optimizer.weight_decay": (config.optimizer.weight_decay, 0),
        "trainer.devices": (config.trainer.devices, 1),
        "trainer.num_nodes": (config.trainer.num_nodes, 1),
    }
    for key, (value, smallest) in at_least.items():
        if not value >= smallest:
            yield f"{key}={value}: must be at least {smallest}"
    if not config.optimizer.eps > 0:
        yield f"optimizer.eps={config.optimizer.eps}: must be above 0"
    if len(config.optimizer.betas) != 2 or not all(0 <= beta < 1 for beta in config.optimizer.betas):
        yield f"optimizer.betas={config.optimizer.betas}: two numbers in [0, 1)"
    if config.update.minibatches > config.prompts_per_iteration:
        yield (
            f"update.minibatches={config.update.minibatches}: at most prompts_per_iteration="
            f"{config.prompts_per_iteration}, since the responses of a prompt stay together"
        )


def _choices(config: RunConfig) -> Iterator[str]:
    allowed = [
        ("model.dtype", config.model.dtype, DTYPES),
        ("trainer.precision", config.trainer.precision, PRECISIONS),
        ("trainer.strategy", config.trainer.strategy, STRATEGIES),
        ("trainer.accelerator", config.trainer.accelerator, ACCELERATORS),
        ("optimizer.schedule", config.phases[0].schedule, SCHEDULES),
        *((f"phase{phase.number}.schedule", phase.schedule, SCHEDULES) for phase in config.phases[1:]),
    ]
    for key, value, choices in allowed:
        if value not in choices:
            yield f"{key}={value}: allowed are {', '.join(choices)}.{nearest(value, choices)}"


def _phases(config: RunConfig) -> Iterator[str]:
    before = config.phases[0]
    for phase in config.phases:
        key = "optimizer" if phase.number == 1 else f"phase{phase.number}"
        if not phase.lr > 0:
            yield f"{key}.lr={phase.lr}: must be above 0"
        if phase.warmup < 0:
            yield f"{key}.warmup={phase.warmup}: must be at least 0"
    for phase in config.phases[1:]:
        key = f"phase{phase.number}.start"
        if not isinstance(phase.start, int):
            before = phase
            continue
        if phase.start < 1:
            yield f"{key}={phase.start}: a later phase starts at iteration 1 or after (iterations count from 0)"
        elif phase.start >= config.iterations:
            yield f"{key}={phase.start}: never reached, iterations={config.iterations} end with {config.iterations - 1}"
        elif isinstance(before.start, int) and phase.start <= before.start:
            yield f"{key}={phase.start}: must come after phase {before.number}, which starts at {before.start}"
        before = phase


def _sampling(phase: Phase) -> Iterator[str]:
    prefix = "sampling" if phase.number == 1 else f"phase{phase.number}.sampling"
    sampling: SamplingConfig = phase.sampling
    if sampling.max_new_tokens < 1:
        yield f"{prefix}.max_new_tokens={sampling.max_new_tokens}: must be at least 1"
    if not sampling.temperature > 0:
        yield (
            f"{prefix}.temperature={sampling.temperature}: training samples need a temperature above 0 "
            "(validation.temperature=0 is greedy validation)"
        )
    if not 0 < sampling.top_p <= 1:
        yield f"{prefix}.top_p={sampling.top_p}: must be in (0, 1]"
    if sampling.top_k < 0:
        yield f"{prefix}.top_k={sampling.top_k}: must be at least 0 (0: all tokens)"


def _objective(phase: Phase, config: RunConfig) -> list[str]:
    """Problems of a phase's objective, found by running it once on a tiny batch of the run's group size."""
    prefix = "objective" if phase.number == 1 else f"phase{phase.number}.objective"
    try:
        for _, term in phase.objective.terms:
            _dry_run(term, min(2, config.prompts_per_iteration), config.responses_per_prompt)
    except (ValueError, TypeError) as error:
        return [f"{prefix}: {error}"]
    return []


def _dry_run(term: Objective, prompts: int, responses: int) -> None:
    for kind, spec in _specs(term):
        build(kind, spec)
    rewards = torch.arange(prompts * responses).remainder(2).float().view(prompts, responses)
    advantages = term.advantages(rewards)
    kept = term.kept(rewards, advantages)
    for label, found in (("advantages", advantages), ("kept", kept)):
        if found.shape != rewards.shape:
            raise ConfigError(f"{label} must be of shape [B, G] = {[*rewards.shape]}, not {[*found.shape]}")
    logprobs = torch.full((prompts * responses, 2), -1.0, requires_grad=True)
    mask = kept.reshape(-1, 1).expand_as(logprobs)
    batch = LossBatch(
        old_logprobs=logprobs.detach(),
        mask=mask,
        advantages=advantages.reshape(-1),
        counts=Counts.of(mask),
        reference_logprobs=logprobs.detach(),
    )
    if term.loss(logprobs, batch).loss.shape != ():
        raise ConfigError("loss must be a scalar")


def _specs(term: Objective) -> Iterator[tuple[str, Any]]:
    yield "space", term.space
    if isinstance(term, PolicyGradient):
        yield "space", term.kl.space
        for kind in ("advantage", "keep", "surrogate", "aggregate"):
            yield kind, getattr(term, kind)
    elif isinstance(term, KLPenalty):
        yield "aggregate", term.aggregate
