"""From a composed tree to a `RunConfig`: parts built and all of it checked, before anything is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dsrl.config.checks import config_problems
from dsrl.config.run_config import RunConfig
from dsrl.config.schema import PhaseConfig, SamplingConfig, TrainSchema
from dsrl.config.settled import Settled
from dsrl.config.store import LATER_PHASES
from dsrl.errors import ConfigError, nearest
from dsrl.monitors import Monitor
from dsrl.phases.conditions import Condition
from dsrl.phases.phase import Phase
from dsrl.registry import build, names, parse_spec
from dsrl.thoughts import Thoughts


def build_run_config(composed: DictConfig, *, runs_here: bool = True) -> RunConfig:
    """Build the parts of a composed tree and check all of it. Reads no run and no checkpoint.

    runs_here: whether this machine must have what the run needs, such as vLLM; False: it is planned for another.

    Raises ConfigError with every problem found, one a line.
    """
    if unset := [*without_value(composed), *_gaps(composed)]:
        raise ConfigError("\n".join(unset))
    problems: list[str] = []
    fields = built_fields(composed, problems)
    fields["monitors"] = attempt(problems, _monitors, fields["resolved"]["monitors"])
    fields["probe"] = attempt(problems, _probe, fields["resolved"]["probe"])
    resolved, sampling = fields["resolved"], fields.pop("sampling")
    specs = [_first_phase(resolved), *(resolved[key] for key in LATER_PHASES)]
    phases = [
        attempt(problems, _phase, number, spec, sampling)
        for number, spec in enumerate(specs, start=1)
        if spec is not None
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    known = {field.name for field in dataclasses.fields(RunConfig)}
    config = RunConfig(**{key: value for key, value in fields.items() if key in known}, phases=phases)
    if wrong := config_problems(config, runs_here=runs_here):
        raise ConfigError("\n".join(dict.fromkeys(wrong)))
    return config


def build_run_config_of(resolved: Mapping[str, Any]) -> RunConfig:
    """Build and check a configuration of plain values, such as that of another run. Raises ConfigError."""
    composed = OmegaConf.merge(OmegaConf.structured(TrainSchema), dict(resolved))
    assert isinstance(composed, DictConfig)
    return build_run_config(composed)


def built_fields(composed: DictConfig, problems: list[str]) -> dict[str, Any]:
    """Make the values that a run has of a composed tree: sections as their dataclasses, parts built, the rest plain;
    and all of it as plain values under `resolved`. What is wrong with the parts is added to `problems`.
    """
    resolved: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    typed = {str(key): OmegaConf.to_object(composed[key]) for key in composed if _is_typed(composed, str(key))}
    parts = {kind: attempt(problems, _part, kind, resolved[kind]) for kind in ("data", "sampler", "verifier")}
    if "thoughts" in resolved:
        parts["thoughts"] = attempt(problems, _thoughts, resolved["thoughts"])
    folders = {key: Path(resolved[key]).expanduser() for key in ("run_dir",) if key in resolved}
    return {**resolved, **typed, **parts, **folders, "resolved": resolved}


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


def _thoughts(spec: Any) -> Thoughts:
    try:
        built = _part("thoughts", spec)
    except ConfigError as error:
        raise ConfigError(str(error) if spec is None else f"thoughts: {error}") from error
    if not isinstance(built, Thoughts):
        raise ConfigError(f"thoughts={spec}: {type(built).__qualname__} must be a dsrl.thoughts.Thoughts")
    return built


def _monitors(specs: Mapping[str, Any]) -> dict[str, Monitor]:
    """Build the monitors that are on; a label without `name` is the registered name."""
    built = {}
    for label, spec in specs.items():
        if not isinstance(spec, Mapping):
            raise ConfigError(
                f"monitors.{label}={spec}: must be {{action: ..., parameter: value}} (action: off turns one off)"
            )
        try:
            monitor = build("monitor", {"name": label, **spec})
        except ConfigError as error:
            raise ConfigError(f"monitors.{label}: {error}") from error
        if not isinstance(monitor, Monitor):
            raise ConfigError(f"monitors.{label}: {type(monitor).__qualname__} must be a dsrl.monitors.Monitor")
        if monitor.action != "off":
            built[str(label)] = monitor
    return built


def _probe(spec: Any) -> Any:
    """Build the probe, if there is one; its class knows the loop, and is known here by what it can do."""
    if spec is None:
        return None
    try:
        probe = build("probe", spec)
    except ConfigError as error:
        raise ConfigError(f"probe: {error}") from error
    if not callable(getattr(probe, "measure", None)) or not hasattr(probe, "every"):
        raise ConfigError(f"probe: {type(probe).__qualname__} must be a dsrl.Probe")
    return probe


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
