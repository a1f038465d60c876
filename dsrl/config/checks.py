"""What must hold of fields and between them. Every message says the field, its value, and what is allowed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsrl.config.dry_run import try_condition, try_monitor, try_objective
from dsrl.config.metric_names import metric_problems
from dsrl.config.replay_checks import replay_problems
from dsrl.config.resumed import missing_checkpoint
from dsrl.config.schema import LoraConfig, ModelConfig, SamplingConfig
from dsrl.config.trainer_checks import machine_problems, trainer_problems
from dsrl.errors import DSRLError, nearest
from dsrl.models.loading import missing_model
from dsrl.phases.conditions import Condition
from dsrl.phases.phase import SCHEDULES, Phase
from dsrl.registry.blame import blaming

if TYPE_CHECKING:
    from dsrl.config.run_config import RunConfig
    from dsrl.samplers import Sampler

AUTO = "auto"
"""The value of update.micro_batch_tokens that is the most which fit."""
DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")
PROFILERS = ("simple", "advanced", "pytorch")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "bf16-true", "16-true")
STRATEGIES = ("auto", "ddp", "fsdp", "fsdp1")
CORRECTIONS, LEVELS, MODES = ("auto", "on", "off"), ("token", "sequence"), ("truncate", "mask")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def config_problems(config: RunConfig, *, runs_here: bool = True) -> list[str]:
    """Find everything that is wrong with a configuration, one message each.

    runs_here: whether what this machine lacks is wrong, too.
    """
    problems = [
        *not_finite(config.resolved),
        *_sizes(config),
        *_choices(config),
        *trainer_problems(config),
        *_phases(config),
        *_monitors(config),
        *model_problems(config.model),
        *_paths(config),
    ]
    for phase in config.phases:
        prefix = "sampling" if phase.number == 1 else f"phase{phase.number}.sampling"
        problems += sampling_problems(prefix, phase.sampling, config.sampler)
        problems += _correction(phase, config)
        if config.prompts_per_iteration > 0 and config.responses_per_prompt > 0:
            problems += _tried(phase, config)
    for part in (config.data, config.sampler, config.verifier):
        problems += getattr(part, "check", list)()
    if runs_here:
        problems += [*machine_problems(config.trainer), *getattr(config.sampler, "check_machine", list)()]
    if config.probe is not None:
        problems += config.probe.check(config.trainer)
    problems += getattr(config.data, "check_training", list)()
    problems += _temperature("validation", config.validation.temperature, config.sampler.for_validation)
    problems += replay_problems(config)
    problems += metric_problems(config)
    return problems


def not_finite(node: Any, key: str = "") -> Iterator[str]:
    """Find numbers that are not finite, anywhere."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from not_finite(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, float) and not math.isfinite(node):
        yield f"{key}={node}: must be a finite number"


def _sizes(config: RunConfig) -> Iterator[str]:
    at_least = {
        "iterations": (config.iterations, 1),
        "prompts_per_iteration": (config.prompts_per_iteration, 1),
        "responses_per_prompt": (config.responses_per_prompt, 1),
        "dynamic_sampling": (config.dynamic_sampling, 0),
        "logged_samples": (config.logged_samples, 0),
        "logged_tokens": (config.logged_tokens, 0),
        "update.minibatches": (config.update.minibatches, 1),
        "update.epochs": (config.update.epochs, 1),
        "update.clip_norm": (config.update.clip_norm, 0),
        "update.max_skipped": (config.update.max_skipped, 0),
        "mismatch.every": (config.mismatch.every, 0),
        "initial_kl.every": (config.initial_kl.every, 0),
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
        if value < smallest:
            yield f"{key}={value}: must be at least {smallest}"
    tokens = config.update.micro_batch_tokens
    if tokens != AUTO and (not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1):
        yield f"update.micro_batch_tokens={tokens}: must be a whole number, at least 1, or {AUTO}"
    for key in ("device_gib", "disk_gbps", "network_gbps", "prompt_tokens", "response_tokens"):
        given = getattr(config.plan, key)
        if given is not None and given <= 0:
            yield f"plan.{key}={given}: must be above 0"
    if config.plan.response_spread < 0:
        yield f"plan.response_spread={config.plan.response_spread}: must be at least 0"
    for key in ("always_right", "always_wrong"):
        if not 0 <= getattr(config.curriculum, key) <= 1:
            yield f"curriculum.{key}={getattr(config.curriculum, key)}: must be in [0, 1]"
    if config.optimizer.eps <= 0:
        yield f"optimizer.eps={config.optimizer.eps}: must be above 0"
    if len(config.optimizer.betas) != 2 or not all(0 <= beta < 1 for beta in config.optimizer.betas):
        yield f"optimizer.betas={config.optimizer.betas}: must be two numbers in [0, 1)"
    if not 0 <= config.seed < 2**32:
        yield f"seed={config.seed}: must be in [0, 2**32)"
    if config.update.minibatches > max(config.prompts_per_iteration, 1):
        yield (
            f"update.minibatches={config.update.minibatches}: at most prompts_per_iteration="
            f"{config.prompts_per_iteration}, since the responses of a prompt stay together"
        )


def _choices(config: RunConfig) -> Iterator[str]:
    allowed = [
        ("trainer.precision", config.trainer.precision, PRECISIONS),
        ("trainer.strategy", config.trainer.strategy, STRATEGIES),
        ("trainer.accelerator", config.trainer.accelerator, ACCELERATORS),
        ("checkpoint.best_mode", config.checkpoint.best_mode, ("max", "min")),
        ("mismatch.correction", config.mismatch.correction, CORRECTIONS),
        ("mismatch.level", config.mismatch.level, LEVELS),
        ("mismatch.mode", config.mismatch.mode, MODES),
        ("update.on_nonfinite", config.update.on_nonfinite, ("stop", "skip")),
        ("optimizer.schedule", config.phases[0].schedule, SCHEDULES),
        *((f"phase{phase.number}.schedule", phase.schedule, SCHEDULES) for phase in config.phases[1:]),
    ]
    yield from not_allowed(allowed)
    if config.trainer.profiler is not None:
        yield from not_allowed([("trainer.profiler", config.trainer.profiler, PROFILERS)])
    for group, kind in (("logger", "logger"), ("callbacks", "callback")):
        for name, spec in getattr(config, group).items():
            if not isinstance(spec, Mapping) or not isinstance(spec.get("_target_"), str):
                yield f"{group}.{name}={spec}: must have _target_, the class of a Lightning {kind}, and its arguments"


def not_allowed(values: Sequence[tuple[str, str, Sequence[str]]]) -> Iterator[str]:
    """Find, of (key, value, choices), the values that are none of their choices."""
    for key, value, choices in values:
        if value not in choices:
            yield f"{key}={value}: allowed are {', '.join(choices)}.{nearest(value, choices)}"


def model_problems(model: ModelConfig) -> Iterator[str]:
    """Find what is wrong with a model's settings, without loading it."""
    yield from not_allowed(
        [("model.dtype", model.dtype, DTYPES), ("model.attn_implementation", model.attn_implementation, ATTENTIONS)]
    )
    if model.activation_offloading and not model.gradient_checkpointing:
        yield "model.activation_offloading keeps what checkpointing saves: add model.gradient_checkpointing=true"
    if model.chat_date is not None and not _is_date(model.chat_date):
        yield f"model.chat_date={model.chat_date}: must be a date, such as 2026-11-30, or null"
    if not model.name:
        yield "model.name is empty: tiny, retry, smollm2, a folder, or a name on the Hugging Face hub"
    elif problem := missing_model(model):
        yield problem
    yield from _lora(model.lora)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _lora(lora: LoraConfig) -> Iterator[str]:
    if lora.rank < 0:
        yield f"model.lora.rank={lora.rank}: must be at least 0 (0: all weights are trained)"
    if lora.alpha <= 0:
        yield f"model.lora.alpha={lora.alpha}: must be above 0"
    modules, parameters = lora.target_modules, lora.target_parameters
    if not isinstance(modules, str) and not _are_names(modules):
        yield f"model.lora.target_modules={modules}: must be all-linear, a list of names, or a regular expression"
    if parameters is not None and not _are_names(parameters):
        yield f"model.lora.target_parameters={parameters}: must be a list of names, or null"
    if not modules and not parameters:
        yield "model.lora.target_modules is empty, and so is model.lora.target_parameters: nothing would get an adapter"


def _are_names(value: Any) -> bool:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return listed and all(isinstance(name, str) and name for name in value)


def _phases(config: RunConfig) -> Iterator[str]:
    for phase in config.phases:
        key = "optimizer" if phase.number == 1 else f"phase{phase.number}"
        if phase.lr <= 0:
            yield f"{key}.lr={phase.lr}: must be above 0"
        if phase.warmup < 0:
            yield f"{key}.warmup={phase.warmup}: must be at least 0"
    begun = 0  # the iteration in which the phase before begins, at the earliest
    for phase in config.phases[1:]:
        key, start = f"phase{phase.number}.start", phase.start
        first = start if isinstance(start, int) else begun + start.earliest
        given = f"{key}={start}" if isinstance(start, int) else f"{key}.earliest={start.earliest}"
        if first < 1:
            yield f"{given}: a later phase starts at iteration 1 or after (iterations count from 0)"
        elif first >= config.iterations:
            yield f"{given}: never reached, iterations={config.iterations} end with {config.iterations - 1}"
        elif first <= begun:
            yield f"{given}: must come after phase {phase.number - 1}, which starts at {begun} or later"
        begun = max(begun, first)


def _monitors(config: RunConfig) -> Iterator[str]:
    for label, monitor in config.monitors.items():
        if monitor.action == "handoff" and len(config.phases) == 1:
            yield f"monitors.{label}.action=handoff: there is no phase to hand off to; add one by +phase2=NAME, or stop"
        try:
            try_monitor(monitor)
        except DSRLError as error:
            yield f"monitors.{label}: {error}"


def _paths(config: RunConfig) -> Iterator[str]:
    if problem := missing_checkpoint(config.resume):
        yield problem
    if problem := folder_problem(config.resolved["run_dir"]):
        yield problem


def folder_problem(run_dir: str) -> str | None:
    """Say why a folder cannot be made; None where it can."""
    path = Path(run_dir).expanduser()
    if not run_dir:
        return "run_dir is empty: the folder for the run's files is needed"
    if not os.path.isdir(next(folder for folder in (path, *path.absolute().parents) if os.path.exists(folder))):
        return f"run_dir={path}: cannot be made, since a file is in its way"
    return None


def sampling_problems(
    prefix: str, sampling: SamplingConfig, sampler: Sampler, *, greedy: bool = False
) -> Iterator[str]:
    """Find what is wrong with how samples are drawn; `greedy` says whether temperature 0 is fine."""
    if sampling.max_new_tokens < 1:
        yield f"{prefix}.max_new_tokens={sampling.max_new_tokens}: must be at least 1"
    if sampling.temperature < 0 and greedy:
        yield f"{prefix}.temperature={sampling.temperature}: must be at least 0 (0: greedy)"
    if sampling.temperature <= 0 and not greedy:
        yield (
            f"{prefix}.temperature={sampling.temperature}: training samples need a temperature above 0 "
            "(validation.temperature=0 is greedy validation)"
        )
    if sampling.top_p <= 0 or sampling.top_p > 1:
        yield f"{prefix}.top_p={sampling.top_p}: must be in (0, 1]"
    if sampling.top_k < 0:
        yield f"{prefix}.top_k={sampling.top_k}: must be at least 0 (0: all tokens)"
    if sampler.max_length is not None and sampling.max_new_tokens >= sampler.max_length:
        yield (
            f"{prefix}.max_new_tokens={sampling.max_new_tokens}: a prompt and its response have {sampler.max_length} "
            "tokens in the sampler (sampler=vllm: raise sampler.max_model_len)"
        )
    yield from _temperature(prefix, sampling.temperature, sampler)


def _temperature(prefix: str, temperature: float, sampler: Sampler) -> Iterator[str]:
    lowest, highest = sampler.temperatures
    if temperature > 0 and not lowest <= temperature <= highest:
        yield f"{prefix}.temperature={temperature}: this sampler draws at {lowest:g} to {highest:g}"


def _correction(phase: Phase, config: RunConfig) -> Iterator[str]:
    if phase.number == 1 and config.mismatch.cap <= 0:
        yield f"mismatch.cap={config.mismatch.cap}: must be above 0"
    if config.mismatch.correction == "on" and phase.sampling.restricted:
        yield (
            f"mismatch.correction=on: with top_p or top_k below full (phase {phase.number}), responses are not drawn "
            "from P(y|x), and the ratio of two P(y|x) corrects nothing; set both full, or mismatch.correction=off"
        )


def _tried(phase: Phase, config: RunConfig) -> Iterator[str]:
    """Find problems of a phase's parts by trying each on a tiny batch of the run's group size."""
    number = phase.number
    prefix = "objective" if number == 1 else f"phase{number}.objective"
    prompts, responses = min(2, config.prompts_per_iteration), config.responses_per_prompt
    try:
        for _, term in blaming(lambda: phase.objective.terms, owner=phase.objective):
            try_objective(term, prompts, responses)
    except (DSRLError, ValueError, TypeError) as error:
        yield f"{prefix}: {error}"
    if isinstance(phase.start, Condition):
        try:
            try_condition(phase.start)
        except DSRLError as error:
            yield f"phase{number}.start: {error}"
