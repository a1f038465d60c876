"""One registry for every replaceable part, and the one form in which a part is chosen.

    @register("keep", "longest")
    def longest(rewards, advantages, *, share: float = 0.5): ...

A part is chosen by its name, `keep=longest`, or, with parameters beside the name, `keep={name: longest, share: 0.2}`.
The parameters of a class are its dataclass fields, those of a function its keyword-only arguments.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import importlib.metadata
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dsrl.errors import ConfigError, nearest

KINDS = (
    "objective",
    "space",
    "advantage",
    "keep",
    "surrogate",
    "aggregate",
    "verifier",
    "sampler",
    "data",
    "condition",
)
BUILT_IN = ("dsrl.objectives", "dsrl.verifiers", "dsrl.samplers", "dsrl.data", "dsrl.phases.conditions")
PLAIN = (Any, str, int, float, bool, str | None, int | None, float | None)
PLUGIN_GROUP = "dsrl.plugins"
PLUGIN_VARIABLE = "DSRL_PLUGINS"

Registered = TypeVar("Registered", bound=Callable[..., Any])

_registry: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}


def register(kind: str, name: str) -> Callable[[Registered], Registered]:
    """Decorator: make a dataclass or a function known as `name` among its kind.

    Raises ConfigError for an unknown kind, for a class that is not a dataclass, and for a name that is taken (naming
    both owners). Registering the same definition again, as a reload does, replaces it.
    """
    if kind not in _registry:
        raise ConfigError(f"unknown kind '{kind}'; kinds are {', '.join(KINDS)}.{nearest(kind, KINDS)}")

    def decorate(part: Registered) -> Registered:
        if inspect.isclass(part) and not dataclasses.is_dataclass(part):
            raise ConfigError(f"{kind} '{name}': {_owner(part)} must be a dataclass (put @dataclass under @register)")
        if inspect.isclass(part):
            _refuse_lost_defaults(f"{kind} '{name}'", part)
        if "name" in _parameters(part):
            raise ConfigError(f"{kind} '{name}': a parameter cannot be called 'name', which is the part's own key")
        present = _registry[kind].get(name)
        if present is not None and _owner(present) != _owner(part):
            raise ConfigError(f"{kind} '{name}' is registered twice: by {_owner(present)} and by {_owner(part)}")
        _registry[kind][name] = part
        return part

    return decorate


def names(kind: str) -> list[str]:
    """Registered names of a kind, sorted; built-in parts and plugins are loaded first."""
    if kind not in _registry:
        raise ConfigError(f"unknown kind '{kind}'; kinds are {', '.join(KINDS)}.{nearest(kind, KINDS)}")
    load_plugins()
    return sorted(_registry[kind])


def build(kind: str, spec: str | Mapping[str, Any] | Any, **parameters: Any) -> Any:
    """The part that `spec` chooses: an instance of a registered class, or a registered function with parameters set.

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
    given = {**given, **parameters}
    part = _find(kind, name)
    values = _typed(f"{kind} '{name}'", part, given)
    if not inspect.isclass(part):
        return functools.partial(part, **values) if values else part
    try:
        return part(**values)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{kind} '{name}': {error}") from error


def parse_spec(kind: str, spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a spec."""
    if isinstance(spec, str):
        return spec, {}
    if "name" not in spec:
        raise ConfigError(f"{kind} {dict(spec)} has no name; write {{name: ..., parameter: value}}")
    return str(spec["name"]), {str(key): value for key, value in spec.items() if key != "name"}


def full_spec(kind: str, spec: str | Mapping[str, Any]) -> str | dict[str, Any]:
    """A spec with the defaults of its part written out; the bare name where there is nothing beside it."""
    name, given = parse_spec(kind, spec)
    parameters = _parameters(_find(kind, name)).items()
    defaults = {key: default for key, (_, default) in parameters if default is not dataclasses.MISSING}
    return {"name": name, **defaults, **given} if defaults or given else name


def schema(kind: str, name: str) -> type:
    """A dataclass with the part's name and its parameters, typed and with their defaults: what Hydra composes."""
    part = _find(kind, name)
    fields: list[Any] = [("name", str, dataclasses.field(default=name))]
    for key, (annotation, default) in _parameters(part).items():
        if default is dataclasses.MISSING:
            fields.append((key, annotation, dataclasses.field(default="???")))
        elif isinstance(default, str | int | float | bool | None):
            fields.append((key, annotation, dataclasses.field(default=default)))
        else:
            fields.append(
                (key, annotation, dataclasses.field(default_factory=functools.partial(copy.deepcopy, default)))
            )
    return dataclasses.make_dataclass(f"{name}_config", fields, kw_only=True)


def load_plugins() -> None:
    """Import the built-in parts, then every plugin: entry points of group `dsrl.plugins`, then modules in DSRL_PLUGINS.

    An entry is a module, or a callable that registers. Loading is idempotent. Raises ConfigError that names the plugin
    which failed.
    """
    for module in BUILT_IN:
        importlib.import_module(module)
    for entry in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        _load_once(f"{PLUGIN_GROUP}:{entry.name} = {entry.value}", entry.load)
    for module in filter(None, (part.strip() for part in os.environ.get(PLUGIN_VARIABLE, "").split(","))):
        _load_once(f"{PLUGIN_VARIABLE}:{module}", functools.partial(importlib.import_module, module))


_loaded: set[str] = set()


def _load_once(label: str, load: Callable[[], Any]) -> None:
    if label in _loaded:
        return
    _loaded.add(label)
    try:
        plugin = load()
        if callable(plugin) and not inspect.isclass(plugin):
            plugin()
    except Exception as error:
        _loaded.discard(label)
        what = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"plugin {label} failed to load: {what}") from error


def _find(kind: str, name: str) -> Callable[..., Any]:
    if name not in _registry.get(kind, {}):
        known = names(kind)
    if name not in _registry[kind]:
        raise ConfigError(f"unknown {kind} '{name}'; registered are {', '.join(known)}.{nearest(name, known)}")
    return _registry[kind][name]


def _refuse_lost_defaults(label: str, part: type) -> None:
    """Raise where a class sets a field that its __init__ would overwrite with the default of a base."""
    for field in dataclasses.fields(part):
        for base in part.__mro__:
            if "__dataclass_fields__" in vars(base) and field.name in inspect.get_annotations(base):
                break
            if field.name in vars(base):
                raise ConfigError(
                    f"{label}: {base.__qualname__}.{field.name} would be ignored; give it a type "
                    f"(`{field.name}: ... = ...`) and put @dataclass(kw_only=True) on {base.__qualname__}"
                )


def _owner(part: Callable[..., Any]) -> str:
    return f"{part.__module__}.{part.__qualname__}"


def _parameters(part: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Parameter name to (annotation, default); MISSING where a value must be given."""
    found = {}
    if dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            factory = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            if field.init:
                found[field.name] = _annotation(part, field.name, field.type), default
        return found
    for key, parameter in inspect.signature(part).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            default = dataclasses.MISSING if parameter.default is parameter.empty else parameter.default
            found[key] = _annotation(part, key, parameter.annotation), default
    return found


def _annotation(part: Callable[..., Any], key: str, annotation: Any) -> Any:
    """A parameter's type; Any where it has none, or one that only a type checker sees, or that no config can hold."""
    if inspect.isclass(part):
        owner = next(base for base in part.__mro__ if key in inspect.get_annotations(base))
        scope = vars(sys.modules[owner.__module__])
    else:
        scope = part.__globals__
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, dict(scope))
        except NameError:
            return Any
    return annotation if _can_hold(annotation) else Any


def _can_hold(annotation: Any) -> bool:
    """Whether a config can hold, and check, values of this type."""
    if annotation in PLAIN:  # to ask OmegaConf takes a millisecond, and there are hundreds
        return True
    try:
        OmegaConf.structured(
            dataclasses.make_dataclass("holder", [("value", annotation, dataclasses.field(default="???"))])
        )
    except OmegaConfBaseException:
        return False
    return True


def _typed(label: str, part: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` checked against the part's parameters and converted to their types."""
    allowed = _parameters(part)
    for key in given:
        if key not in allowed:
            choices = f"its parameters are {', '.join(allowed)}" if allowed else "it takes no parameters"
            raise ConfigError(f"{label} has no parameter '{key}'; {choices}.{nearest(key, allowed)}")
    missing = [key for key, (_, default) in allowed.items() if default is dataclasses.MISSING and key not in given]
    if missing:
        raise ConfigError(f"{label} needs a value for {', '.join(missing)}")
    typed = {}
    for key, value in given.items():
        annotation = allowed[key][0]
        if annotation is Any and not OmegaConf.is_config(value):
            typed[key] = value
            continue
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation) and isinstance(value, Mapping):
            typed[key] = annotation(**_typed(f"{label}: {key}", annotation, value))
            continue
        try:
            holder = dataclasses.make_dataclass("holder", [(key, annotation)])
            typed[key] = getattr(OmegaConf.to_object(OmegaConf.structured(holder(value))), key)
        except OmegaConfBaseException as error:
            expected = annotation.__name__ if inspect.isclass(annotation) else annotation
            raise ConfigError(f"{label}: {key}={value!r} is not of type {expected}") from error
    return typed
