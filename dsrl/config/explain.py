"""What is wrong with the words of a command line, in the user's terms: the key, its value, what is allowed."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from types import NoneType
from typing import Any

from hydra import compose as hydra_compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from dsrl.config.command_line import value_of
from dsrl.config.renamed import OTHER_UNITS, RENAMED, REPLACED
from dsrl.config.store import GROUPS, LATER_PHASES, OPTIONAL, config_dir
from dsrl.config.trainer_arguments import INSTEAD
from dsrl.errors import nearest
from dsrl.registry import config_schema
from dsrl.registry.plugins import failures

SEVERAL = ("logger", "callbacks", "experiment")
"""Groups of which several files can be chosen, `logger=[local,wandb]`."""
OPEN = ("logger", "callbacks")
"""Mappings to which a command line can add objects, `+logger.mine._target_=CLASS`."""
TYPES: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
VALUES = 3
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError, TypeError)


def what_is_wrong(overrides: Sequence[Override], root: str) -> list[str]:
    """Explain why a line cannot be composed, one message for each word that is at fault."""
    ordered = sorted(overrides, key=_order)
    names = [override for override in ordered if _order(override) < VALUES]
    others = [override for override in ordered if _order(override) == VALUES]
    # One wrong name brings on wrong keys, so names come first.
    given = [str(name.input_line) for name in names]
    return [*_problems(names, [], root)] or [*_problems(others, given, root)]


def options(group: str) -> list[str]:
    """List the names of a group, to be called within `composing()`."""
    found = GlobalHydra.instance().config_loader().get_group_options(group, ObjectType.CONFIG)
    return sorted(name for name in found if not name.startswith("_"))


def bad_choice(override: Override) -> str:
    """Say what is wrong with the form of a choice; nothing where it is right."""
    group, given = override.key_or_group, override.input_line
    if not _is_choice(override) or override.is_sweep_override():
        return ""
    if override.is_delete():
        stays = group in OPTIONAL or group in SEVERAL
        return "" if stays else f"{given}: a run needs one; choose it by {group}=NAME: {', '.join(options(group))}"
    value = override.value()
    if override.is_force_add():
        return f"{given}: write {group}=NAME, or +{group}=NAME where it is not set yet"
    if isinstance(value, str) or (group in SEVERAL and isinstance(value, list)):
        return ""
    hint = f"; set a field by {group}.FIELD=VALUE" if isinstance(value, dict) else ""
    return f"{given}: one name is needed, of {', '.join(options(group))}{hint}"


def misplaced(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Find what OmegaConf lets pass in a typed tree: keys added by +, a part's name without its parameters."""
    fields = {field.name: field.default for field in dataclasses.fields(OmegaConf.get_type(node))}  # type: ignore[arg-type]
    if _is_part(node) and "name" in fields and node.name != fields["name"]:
        part = prefix.removesuffix(".")
        choice = f"+{part.removesuffix('.objective')}" if part.endswith(".objective") else part
        yield f"{part} is {fields['name']}, and name={node.name} does not change that; write {choice}={node.name}"
    for key in map(str, node):
        name, kind = f"{prefix}{key}", OmegaConf.get_type(node, key)
        if key not in fields:
            yield unknown(name, node, prefix)
        elif OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key) or node[key] is None:
            continue
        elif name in OPTIONAL and not dataclasses.is_dataclass(kind):
            yield _not_chosen(name, f"{name}.{next(iter(node[key]), '')}")
        elif isinstance(node[key], DictConfig) and dataclasses.is_dataclass(kind):
            yield from misplaced(node[key], f"{name}.")
        elif key == "objective":
            yield f"{name}={node[key]}: choose the objective of a phase by +{prefix.removesuffix('.')}=NAME"


def unknown(key: str, node: DictConfig, prefix: str = "") -> str:
    """Say of a key that is not below `node` what it is called now, whose it would be, or those like it."""
    if key in RENAMED:
        units = f", and counts {OTHER_UNITS[key]}" if key in OTHER_UNITS else ""
        return f"{key} is now called {RENAMED[key]}{units}"
    if key in REPLACED:
        return f"{key} is gone, instead there is {REPLACED[key]}"
    section, _, argument = key.partition(".")
    if section == "trainer" and argument in INSTEAD:
        return f"unknown key '{key}': {INSTEAD[argument]}"
    keys = [*_keys(node, prefix), *OPTIONAL]
    known = [name for name in keys if not f"{key}.".startswith(f"{name}.") and not name.startswith(f"{key}.")]
    parent, _, last = key.rpartition(".")
    siblings = [name for name in known if parent and name.rpartition(".")[0] == parent]
    owners = [name for name in options(parent) if last in _parameters(parent, name)] if parent in GROUPS else []
    elsewhere = [name for name in known if name.endswith(f".{last}")]
    if owners:
        hint = f" It belongs to {' and '.join(f'{parent}={name}' for name in owners)}."
    elif elsewhere:
        hint = f" Did you mean {' or '.join(map(repr, elsewhere[:3]))}?"
    else:
        hint = nearest(key, siblings or known)
    if siblings:
        hint += f" Keys there: {', '.join(name.rpartition('.')[2] for name in siblings)}."
    elif section in OPEN and argument:
        hint = f" To add to {section}, write +{key}=VALUE."
    elif parent in keys:
        hint = f" {parent}={OmegaConf.select(node, parent.removeprefix(prefix))} has no parameters."
    return f"unknown key '{key}'.{hint}"


def _order(override: Override) -> int:
    """Where files are looked for, experiments, other names, values: an override may need those before it."""
    if override.is_hydra_override():
        return 0
    return 1 if override.key_or_group == "experiment" else 2 if _is_choice(override) else VALUES


def _is_choice(override: Override) -> bool:
    """Whether it chooses a name among those of a group, and not a value."""
    group = override.key_or_group
    return group in GROUPS or group in OPTIONAL or (group.isidentifier() and (config_dir() / group).is_dir())


def _problems(overrides: Sequence[Override], given: list[str], root: str) -> Iterator[str]:
    """Say what is wrong with each override, after the right ones before it."""
    right = list(given)
    for override in overrides:
        text = str(override.input_line)
        try:
            hydra_compose(root, [*right, text])
        except COMPOSITION_ERRORS as error:
            composed = hydra_compose(root, right)
            if root != "train" and override.key_or_group.partition(".")[0] not in (*composed, "hydra"):
                yield unknown(override.key_or_group, composed)
            elif _is_choice(override):
                yield _choice_problem(override, error, composed)
            else:
                yield _value_problem(override, error, composed)
        else:
            right.append(text)


def _choice_problem(override: Override, error: Exception, composed: DictConfig) -> str:
    group, value, text = override.key_or_group, value_of(override), str(error)
    if "more than once" in text or "Multiple values" in text:
        return (
            f"+{group}={value}: {group} has a value, by an experiment or by default; write {group}={value}, without +"
        )
    if "Could not override" in text or "Could not delete" in text:
        return f"{override.input_line}: {group} is not set yet; write +{group}=NAME"
    if not isinstance(error, MissingConfigException):  # the file is there, and what stands in it is wrong
        key, cause = _key_of(error), error.__cause__ or error.__context__ or error
        where = f"{cause.full_key}: " if isinstance(cause, OmegaConfBaseException) and cause.full_key else ""
        return f"{override.input_line}: {unknown(key, composed) if key else f'{where}{_first_line(cause)}'}"
    known = list(error.options or options(group))
    chosen = override.value()
    for name in chosen if isinstance(chosen, list) else [chosen]:
        if str(name) not in known:
            kind = "objective" if group in LATER_PHASES else group
            return (
                f"{group}={name}: no such {kind}; there are {', '.join(known)}.{nearest(str(name), known)}{failures()}"
            )
    return f"{override.input_line}: {_first_line(error)}"


def _value_problem(override: Override, error: Exception, composed: DictConfig) -> str:
    key, text = override.key_or_group, override.input_line
    if isinstance(override.value(), dict) and (found := _key_of(error)):
        key = found
    group = key.partition(".")[0]
    if group in OPTIONAL and group in composed and composed[group] is None:
        return _not_chosen(group, str(text))
    node = OmegaConf.select(composed, key.rpartition(".")[0]) if "." in key else composed
    last = key.rpartition(".")[2]
    if not isinstance(node, DictConfig) or last not in map(str, node):
        return unknown(key, composed)
    if override.is_delete():
        return f"{text}: it cannot be taken away, only set"
    if override.is_add():
        return f"{text}: {key} is there already; write {key}={value_of(override)}, without +"
    return f"{text}: must be {expected}" if (expected := _expected(node, last)) else f"{text}: {_first_line(error)}"


def _key_of(error: Exception) -> str:
    """The key that is not there, where that is what an error says; nothing else."""
    cause = error.__cause__ or error.__context__
    return str(cause.full_key) if isinstance(cause, ConfigKeyError | ConfigAttributeError) else ""


def _expected(node: DictConfig, key: str) -> str:
    """The type of a field, in words; nothing where any will do."""
    kind = OmegaConf.get_type(node)
    annotation = typing.get_type_hints(kind)[key] if dataclasses.is_dataclass(kind) else Any
    allowed = [part for part in typing.get_args(annotation) if part is not NoneType]
    optional = NoneType in typing.get_args(annotation)
    single = allowed[0] if optional and len(allowed) == 1 else annotation
    if typing.get_origin(single) is list:
        words = f"a list, [a,b], each {TYPES.get(typing.get_args(single)[0], 'a value')}"
    elif not OmegaConf.is_missing(node, key) and isinstance(node[key], DictConfig):
        words = f"set by its fields, {key}.FIELD=VALUE: {', '.join(map(str, node[key]))}"
    else:
        words = TYPES.get(single, "")
    return f"{words} or null" if words and optional else words


def _not_chosen(group: str, given: str) -> str:
    what = "probe" if group == "probe" else f"phase {group.removeprefix('phase')}"
    return f"{given}: there is no {what}; add one by +{group}=NAME"


def _is_part(node: DictConfig) -> bool:
    """Whether the fields of `node` are those of a registered part."""
    kind = OmegaConf.get_type(node)
    return dataclasses.is_dataclass(kind) and not kind.__module__.startswith("dsrl.config.schema.")


def _parameters(group: str, name: str) -> list[str]:
    return [field.name for field in dataclasses.fields(config_schema(group, name))]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key that can be set, level by level."""
    for key in node if isinstance(node, DictConfig) else ():
        if not (key == "name" and _is_part(node)):
            yield f"{prefix}{key!s}"
        if isinstance(key, str) and not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            yield from _keys(node[key], f"{prefix}{key}.")
