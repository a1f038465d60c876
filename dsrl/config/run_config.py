"""A composed configuration, checked and with its parts built, before anything is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dsrl.config.checks import config_problems
from dsrl.config.schema import (
    CheckpointConfig,
    CurriculumConfig,
    MismatchConfig,
    ModelConfig,
    OptimizerConfig,
    PhaseConfig,
    SamplingConfig,
    Settled,
    TrainerConfig,
    TrainSchema,
    UpdateConfig,
    ValidationConfig,
)
from dsrl.config.store import LATER_PHASES
from dsrl.data.source import DataSource
from dsrl.errors import ConfigError, nearest
from dsrl.phases.conditions import Condition
from dsrl.phases.phase import Phase
from dsrl.registry import build, names, parse_spec
from dsrl.samplers import Sampler

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
    validation: ValidationConfig
    checkpoint: CheckpointConfig
    logged_samples: int
    seed: int
    run_dir: Path
    resume: str | None
    resolved: dict[str, Any]

    @classmethod
    def of_plain(cls, resolved: Mapping[str, Any]) -> RunConfig:
        """Build and check a configuration of plain values, such as that of another run. Raises ConfigError."""
        composed = OmegaConf.merge(OmegaConf.structured(TrainSchema), dict(resolved))
        assert isinstance(composed, DictConfig)
        return cls.of(composed)

    @classmethod
    def of(cls, composed: DictConfig) -> RunConfig:
        """Build the parts of a composed tree and check all of it. Reads no run and no checkpoint.

        Raises ConfigError with every problem found, one a line.
        """
        if unset := [*without_value(composed), *_gaps(composed)]:
            raise ConfigError("\n".join(unset))
        problems: list[str] = []
        fields = built_fields(composed, problems)
        resolved, sampling = fields["resolved"], fields.pop("sampling")
        specs = [_first_phase(resolved), *(resolved[key] for key in LATER_PHASES)]
        phases = [
            attempt(problems, _phase, number, spec, sampling)
            for number, spec in enumerate(specs, start=1)
            if spec is not None
        ]
        if problems:
            raise ConfigError("\n".join(problems))
        known = {field.name for field in dataclasses.fields(cls)}
        config = cls(**{key: value for key, value in fields.items() if key in known}, phases=phases)
        if wrong := config_problems(config):
            raise ConfigError("\n".join(dict.fromkeys(wrong)))
        return config

    @property
    def needs_reference(self) -> bool:
        """Whether any phase compares with a frozen reference model."""
        terms = [term for phase in self.phases for _, term in phase.objective.terms]
        return any(term.needs_reference or term.reward_kl is not None for term in terms)

    @property
    def exact(self) -> bool:
        """Whether sampler and trainer compute the same probabilities, but for the last bits."""
        compute_dtype = self.sampler.compute_dtype
        return compute_dtype is None or (compute_dtype, self.model.dtype, self.trainer.precision) == EXACT

    @property
    def steps_per_iteration(self) -> int:
        """Optimizer steps on one batch of rollouts."""
        return self.update.minibatches * self.update.epochs


def built_fields(composed: DictConfig, problems: list[str]) -> dict[str, Any]:
    """Make the values that a run has of a composed tree: sections as their dataclasses, parts built, the rest plain;
    and all of it as plain values under `resolved`. What is wrong with the parts is added to `problems`.
    """
    resolved: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    typed = {str(key): OmegaConf.to_object(composed[key]) for key in composed if _is_typed(composed, str(key))}
    parts = {kind: attempt(problems, _part, kind, resolved[kind]) for kind in ("data", "sampler", "verifier")}
    run_dir = Path(resolved["run_dir"]).expanduser()
    return {**resolved, **typed, **parts, "run_dir": run_dir, "resolved": resolved}


def attempt(problems: list[str], make: Any, *arguments: Any) -> Any:
    """Return what `make` returns; where it raises ConfigError, add its message to `problems`."""
    try:
        return make(*arguments)
    except ConfigError as error:
        problems.append(str(error))


def without_value(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Find keys that are not set, or that refer to what is not there or is of another type."""
    kind = OmegaConf.get_type(node)
    fields = {field.name: field for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    for key in map(str, node):
        name = f"{prefix}{key}"
        if OmegaConf.is_missing(node, key):
            needs = fields[key].metadata.get("needs") if key in fields else None
            yield f"{name} is not set: give {name}=VALUE" + (f", {needs}" if needs else "")
            continue
        try:
            value = node[key]
        except OmegaConfBaseException as error:
            raw = OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[call-overload,index]
            yield f"{name}={raw}: {str(error).splitlines()[0]}"
            continue
        if isinstance(value, DictConfig):
            yield from without_value(value, f"{name}.")


def _is_typed(composed: DictConfig, key: str) -> bool:
    kind = OmegaConf.get_type(composed, key)
    return isinstance(kind, type) and issubclass(kind, Settled) and kind is not PhaseConfig


def _part(kind: str, spec: Any) -> Any:
    if spec is None:
        raise ConfigError(f"{kind} is not set: choose one, {kind}=NAME; registered are {', '.join(names(kind))}")
    return build(kind, spec)


def _first_phase(resolved: Mapping[str, Any]) -> dict[str, Any]:
    settings = {key: resolved["optimizer"][key] for key in ("lr", "schedule", "warmup")}
    return {"objective": resolved["objective"], "start": 0, "sampling": resolved["sampling"], **settings}


def _gaps(composed: DictConfig) -> Iterator[str]:
    given = [key for key in LATER_PHASES if composed[key] is not None]
    if missing := [key for key in LATER_PHASES[: len(given)] if key not in given]:
        yield f"+{given[-1]} needs +{missing[0]}, too: phases follow each other without a gap"


def _phase(number: int, spec: Mapping[str, Any], sampling: SamplingConfig) -> Phase:
    prefix = "objective" if number == 1 else f"phase{number}.objective"
    values = dict(spec)
    if values.get("objective") is None:
        raise ConfigError(f"{prefix} is not set: choose one, {'' if number == 1 else '+'}{prefix.split('.')[0]}=NAME")
    name, _ = parse_spec("objective", values["objective"])
    try:
        values["objective"] = build("objective", values["objective"])
    except ConfigError as error:
        raise ConfigError(f"{prefix}: {error}") from error
    values["start"] = _start(f"phase{number}.start", values["start"])
    values["sampling"] = dataclasses.replace(sampling, **values["sampling"])
    return Phase(number=number, name=name, **values)


def _start(key: str, spec: Any) -> int | Condition:
    if isinstance(spec, int) and not isinstance(spec, bool):
        return spec
    name, known = spec.get("name") if isinstance(spec, Mapping) else spec, names("condition")
    if name not in known:
        raise ConfigError(
            f"{key}={'null' if spec is None else spec}: must be an iteration (a whole number), or a condition "
            f"({', '.join(known)}) as NAME or {{name: NAME, parameter: value}}.{nearest(str(name), known)}"
        )
    try:
        condition = build("condition", spec)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error
    assert isinstance(condition, Condition)
    return condition
