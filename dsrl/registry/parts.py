"""Kinds and names: register a part, list the names of a kind, build the part that a spec chooses."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dsrl.errors import ConfigError, nearest
from dsrl.registry.parameters import check_schema, dataclass_of, parameters_of, refuse_lost_defaults, typed_values
from dsrl.registry.plugins import failures, load_plugins

KINDS = (
    "objective",
    "space",
    "advantage",
    "keep",
    "surrogate",
    "aggregate",
    "token_weight",
    "verifier",
    "sampler",
    "data",
    "condition",
    "monitor",
    "thoughts",
    "probe",
)
"""The kinds of parts that can be registered."""

NAME = re.compile(r"[\w-]+")
"""What a part may be called."""

Registered = TypeVar("Registered", bound=Callable[..., Any])

registered_parts: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}
"""Every part by kind and name. `register` alone writes to it."""

completed: dict[str, Callable[[Any], Any]] = {}
"""By kind, what adds to a part that was built what it may leave out."""


def register(kind: str, name: str) -> Callable[[Registered], Registered]:
    """Make a dataclass or a function known as `name` among its kind: a decorator.

    Raises ConfigError for an unknown kind, for a class that is not a dataclass, and for a name that is taken (naming
    both owners). Registering the same definition again, as a reload does, replaces it.
    """
    _check_kind(kind)

    def decorate(part: Registered) -> Registered:
        label, owner = f"{kind} '{name}'", _owner(part)
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{label}: a name is made of letters, digits, _ and -, so that a command line can hold it"
            )
        if inspect.isclass(part):
            if not dataclasses.is_dataclass(part):
                raise ConfigError(f"{label}: {owner} must be a dataclass (put @dataclass under @register)")
            refuse_lost_defaults(label, part)
        if "name" in parameters_of(part):
            raise ConfigError(f"{label}: a parameter cannot be called 'name', which is the part's own key")
        if not owner.startswith("dsrl."):
            check_schema(label, part, name)
        present = registered_parts[kind].get(name)
        if present is not None and _owner(present) != owner:
            raise ConfigError(f"{label} is registered twice: by {_owner(present)} and by {owner}")
        registered_parts[kind][name] = part
        return part

    return decorate


def names(kind: str) -> list[str]:
    """List the registered names of a kind, sorted; built-in parts and plugins are loaded first.

    Raises ConfigError for an unknown kind.
    """
    _check_kind(kind)
    load_plugins()
    return sorted(registered_parts[kind])


def find(kind: str, name: str) -> Callable[..., Any]:
    """Return the class or function that is registered as `name`. Raises ConfigError for an unknown name."""
    if name not in registered_parts.get(kind, {}):
        known = names(kind)
        if name not in known:
            raise ConfigError(
                f"unknown {kind} '{name}'; registered are {', '.join(known)}.{nearest(name, known)}{failures()}"
            )
    return registered_parts[kind][name]


def build(kind: str, spec: str | Mapping[str, Any] | Any, **parameters: Any) -> Any:
    """Build the part that `spec` chooses: an instance of a registered class, or a registered function with parameters.

    `spec` is a name, or a mapping of `name` and parameters; `parameters` come on top. Any other object is taken for a
    part that is already built. Raises ConfigError for an unknown name or parameter, or a value of the wrong type.
    """
    if spec is None or isinstance(spec, bool | int | float | list | tuple):
        raise ConfigError(f"{kind} must be a name or {{name: ..., parameter: value}}, not {spec!r}")
    if not isinstance(spec, str | Mapping):
        if parameters:
            raise ConfigError(f"{kind} {spec!r} is already built and takes no {', '.join(parameters)}")
        return spec
    name, given = parse_spec(kind, spec)
    part, label = find(kind, name), f"{kind} '{name}'"
    values = typed_values(label, part, {**given, **parameters})
    if not inspect.isclass(part):
        return functools.partial(part, **values) if values else part
    try:
        return completed.get(kind, _as_it_is)(part(**values))
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{label}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{label} cannot be made: {type(error).__name__}: {error}") from error


def parse_spec(kind: str, spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return name and parameters of a spec. Raises ConfigError for a mapping without a name."""
    if isinstance(spec, str):
        return spec, {}
    if "name" not in spec:
        raise ConfigError(f"{kind} {dict(spec)} has no name; write {{name: ..., parameter: value}}")
    return str(spec["name"]), {str(key): value for key, value in spec.items() if key != "name"}


def full_spec(kind: str, spec: str | Mapping[str, Any]) -> str | dict[str, Any]:
    """Write the defaults of the part into its spec; the bare name where there is nothing beside it."""
    name, given = parse_spec(kind, spec)
    parameters = parameters_of(find(kind, name)).items()
    defaults = {key: default for key, (_, default) in parameters if default is not dataclasses.MISSING}
    return {"name": name, **defaults, **given} if defaults or given else name


def config_schema(kind: str, name: str) -> type:
    """Make the dataclass that Hydra composes for a part: its name and its typed parameters with their defaults."""
    return dataclass_of(find(kind, name), name)


def _as_it_is(part: Any) -> Any:
    return part


def _check_kind(kind: str) -> None:
    if kind not in registered_parts:
        raise ConfigError(f"unknown kind '{kind}'; kinds are {', '.join(KINDS)}.{nearest(kind, KINDS)}")


def _owner(part: Callable[..., Any]) -> str:
    return f"{part.__module__}.{part.__qualname__}"
