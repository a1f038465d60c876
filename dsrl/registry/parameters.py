"""The typed parameters of a part: those of its dataclass fields or keyword-only arguments, and the values given."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dsrl.errors import ConfigError, nearest

PLAIN = (Any, str, int, float, bool, str | None, int | None, float | None)


def parameters_of(part: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return annotation and default of each parameter by its name; MISSING where a value must be given."""
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


def dataclass_of(part: Callable[..., Any], name: str) -> type:
    """Make a dataclass of the part's name and its parameters, typed and with their defaults: what Hydra composes."""
    fields: list[Any] = [("name", str, dataclasses.field(default=name))]
    for key, (annotation, default) in parameters_of(part).items():
        if default is dataclasses.MISSING:
            field: Any = dataclasses.field(default="???")
        elif isinstance(default, str | int | float | bool | None):
            field = dataclasses.field(default=default)
        else:
            field = dataclasses.field(default_factory=functools.partial(copy.deepcopy, default))
        fields.append((key, annotation, field))
    return dataclasses.make_dataclass(f"{name}_config", fields, kw_only=True)


def check_schema(label: str, part: Callable[..., Any], name: str) -> None:
    """Raise ConfigError, beginning with `label`, where no configuration can hold a part's parameters."""
    try:
        OmegaConf.structured(dataclass_of(part, name))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise ConfigError(f"{label}: {str(error).splitlines()[0]}") from error


def typed_values(label: str, part: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check `given` against the part's parameters and convert each value to its type.

    Raises ConfigError, beginning with `label`, for an unknown or a missing parameter and for a value of another type.
    """
    allowed = parameters_of(part)
    for key in given:
        if key not in allowed:
            choices = f"its parameters are {', '.join(allowed)}" if allowed else "it takes no parameters"
            raise ConfigError(f"{label} has no parameter '{key}'; {choices}.{nearest(key, allowed)}")
    missing = [key for key, (_, default) in allowed.items() if default is dataclasses.MISSING and key not in given]
    if missing:
        raise ConfigError(f"{label} needs a value for {', '.join(missing)}")
    return {key: _typed_value(label, key, allowed[key][0], value) for key, value in given.items()}


def refuse_lost_defaults(label: str, part: type) -> None:
    """Raise ConfigError where a class sets a field that its __init__ would overwrite with the default of a base."""
    for field in dataclasses.fields(part):
        for base in part.__mro__:
            if "__dataclass_fields__" in vars(base) and field.name in inspect.get_annotations(base):
                break
            if field.name in vars(base):
                raise ConfigError(
                    f"{label}: {base.__qualname__}.{field.name} would be ignored; give it a type "
                    f"(`{field.name}: ... = ...`) and put @dataclass(kw_only=True) on {base.__qualname__}"
                )


def _typed_value(label: str, key: str, annotation: Any, value: Any) -> Any:
    if annotation is Any and not OmegaConf.is_config(value):
        return value
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation) and isinstance(value, Mapping):
        return annotation(**typed_values(f"{label}: {key}", annotation, value))
    try:
        holder = dataclasses.make_dataclass("holder", [(key, annotation)])
        return getattr(OmegaConf.to_object(OmegaConf.structured(holder(value))), key)
    except OmegaConfBaseException as error:
        expected = annotation.__name__ if inspect.isclass(annotation) else annotation
        raise ConfigError(f"{label}: {key}={value!r} is not of type {expected}") from error


def _annotation(part: Callable[..., Any], key: str, annotation: Any) -> Any:
    """Return a parameter's type; Any where it has none, or one that no configuration can hold.

    A type that only a type checker imports is such a one, so each is looked up alone: where `typing.get_type_hints`
    meets one, it gives none of them.
    """
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
    """Whether a configuration can hold, and check, values of this type."""
    if annotation in PLAIN:  # to ask OmegaConf takes a millisecond, and there are hundreds
        return True
    try:
        OmegaConf.structured(
            dataclasses.make_dataclass("holder", [("value", annotation, dataclasses.field(default="???"))])
        )
    except OmegaConfBaseException:
        return False
    return True
