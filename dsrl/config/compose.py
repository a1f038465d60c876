"""Composition of the command line, and its errors in the user's words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from dsrl.config.command_line import contradictions, jobs, read, spelled_out, swept, value_of
from dsrl.config.evaluated_model import spelled_for_evaluation
from dsrl.config.run_config import LATER_PHASES, RunConfig
from dsrl.config.schema import PhaseConfig
from dsrl.config.store import GROUPS, config_dir, store_registry
from dsrl.errors import ConfigError, nearest

SEVERAL = ("logger", "experiment")
"""Groups of which several files can be chosen, `logger=[local,wandb]`."""
TYPES: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
VALUES = 3
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError, TypeError)


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """The checked configuration of a command line, e.g. `compose(["objective=nsr_prerl", "+phase2=grpo"])`.

    Raises ConfigError with every problem found, one a line.
    """
    store_registry()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return RunConfig.of(_composed(_checked(overrides, multirun=False)))


def check_command_line(overrides: Sequence[str], *, multirun: bool = False, runs: bool = True) -> list[str]:
    """Compose and check every job that a command line asks for; its overrides as Hydra is to have them.

    With `runs` false, as for --cfg and --help, only names, keys and types are checked. Raises ConfigError with every
    problem found, one a line.
    """
    store_registry()
    problems: list[str] = []
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        spelled = _checked(overrides, multirun=multirun)
        spelled = swept(spelled) if multirun else spelled
        for number, job in enumerate(jobs(read(spelled))):
            try:
                composed = _composed(job)
                if multirun:
                    composed.run_dir = f"{composed.run_dir}/{number}"
                if runs:
                    RunConfig.of(composed)
            except ConfigError as error:
                problems += str(error).splitlines()
        if problems:
            raise ConfigError("\n".join(dict.fromkeys(problems)))
        return spelled


def compose_evaluation(overrides: Sequence[str] = ()) -> DictConfig:
    """The composed, typed configuration of an evaluation. Raises ConfigError with every problem found, one a line."""
    store_registry()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return _composed(
            _checked(spelled_for_evaluation(overrides, _options("model")), multirun=False), root="evaluate"
        )


def _checked(overrides: Sequence[str], *, multirun: bool) -> list[str]:
    parsed = read(overrides)
    problems = [*contradictions(parsed, multirun=multirun), *map(_bad_choice, parsed)]
    if any(problems):
        raise ConfigError("\n".join(filter(None, problems)))
    return spelled_out(parsed)


def _composed(overrides: Sequence[str], root: str = "train") -> DictConfig:
    try:
        composed = hydra_compose(root, list(overrides))
    except COMPOSITION_ERRORS as error:
        parsed = sorted(read(overrides), key=_order)
        names = [override for override in parsed if _order(override) < VALUES]
        others = [override for override in parsed if _order(override) == VALUES]
        # One wrong name brings on wrong keys, so names come first.
        given = [str(name.input_line) for name in names]
        problems = [*_problems(names, [], root)] or [*_problems(others, given, root)]
        raise ConfigError("\n".join(problems) or str(error)) from error
    if problems := [*_misplaced(composed)]:
        raise ConfigError("\n".join(problems))
    return composed


def _order(override: Override) -> int:
    """Where files are looked for, experiments, other names, values: an override may need those before it."""
    if override.is_hydra_override():
        return 0
    return 1 if override.key_or_group == "experiment" else 2 if _is_choice(override) else VALUES


def _is_choice(override: Override) -> bool:
    """Whether it chooses a name among those of a group, and not a value."""
    group = override.key_or_group
    return group in GROUPS or group in LATER_PHASES or (group.isidentifier() and (config_dir() / group).is_dir())


def _options(group: str) -> list[str]:
    found = GlobalHydra.instance().config_loader().get_group_options(group, ObjectType.CONFIG)
    return sorted(name for name in found if not name.startswith("_"))


def _bad_choice(override: Override) -> str:
    """What is wrong with the form of a choice."""
    group, given = override.key_or_group, override.input_line
    if not _is_choice(override) or override.is_sweep_override():
        return ""
    if override.is_delete():
        stays = group in LATER_PHASES or group in SEVERAL
        return "" if stays else f"{given}: a run needs one; choose it by {group}=NAME: {', '.join(_options(group))}"
    value = override.value()
    if override.is_force_add():
        return f"{given}: write {group}=NAME, or +{group}=NAME where it is not set yet"
    if isinstance(value, str) or (group in SEVERAL and isinstance(value, list)):
        return ""
    hint = f"; set a field by {group}.FIELD=VALUE" if isinstance(value, dict) else ""
    return f"{given}: one name is needed, of {', '.join(_options(group))}{hint}"


def _problems(overrides: Sequence[Override], given: list[str], root: str) -> Iterator[str]:
    """What is wrong with each override, after the right ones before it."""
    right = list(given)
    for override in overrides:
        text = str(override.input_line)
        try:
            hydra_compose(root, [*right, text])
        except COMPOSITION_ERRORS as error:
            composed = hydra_compose(root, right)
            if root != "train" and override.key_or_group.partition(".")[0] not in (*composed, "hydra"):
                yield _unknown(override.key_or_group, composed)
            elif _is_choice(override):
                yield _choice_problem(override, error)
            else:
                yield _value_problem(override, error, composed)
        else:
            right.append(text)


def _choice_problem(override: Override, error: Exception) -> str:
    group, value, text = override.key_or_group, value_of(override), str(error)
    if "more than once" in text or "Multiple values" in text:
        return (
            f"+{group}={value}: {group} has a value, by an experiment or by default; write {group}={value}, without +"
        )
    if "Could not override" in text or "Could not delete" in text:
        return f"{override.input_line}: {group} is not set yet; write +{group}=NAME"
    known = list(getattr(error, "options", None) or _options(group))
    chosen = override.value()
    for name in chosen if isinstance(chosen, list) else [chosen]:
        if str(name) not in known:
            kind = "objective" if group in LATER_PHASES else group
            return f"{group}={name}: no such {kind}; there are {', '.join(known)}.{nearest(str(name), known)}"
    return f"{override.input_line}: {_first_line(error)}"


def _value_problem(override: Override, error: Exception, composed: DictConfig) -> str:
    key, text = override.key_or_group, override.input_line
    if isinstance(override.value(), dict) and isinstance(error.__cause__, ConfigKeyError | ConfigAttributeError):
        key = str(error.__cause__.full_key)
    phase = key.partition(".")[0]
    if phase in LATER_PHASES and composed[phase] is None:
        return _no_phase(phase, str(text))
    node = OmegaConf.select(composed, key.rpartition(".")[0]) if "." in key else composed
    last = key.rpartition(".")[2]
    if not isinstance(node, DictConfig) or last not in map(str, node):
        return _unknown(key, composed)
    if override.is_delete():
        return f"{text}: it cannot be taken away, only set"
    if override.is_add():
        return f"{text}: {key} is there already; write {key}={value_of(override)}, without +"
    return f"{text}: must be {_expected(node, last)}" if _expected(node, last) else f"{text}: {_first_line(error)}"


def _expected(node: DictConfig, key: str) -> str:
    """The type of a field, in words; nothing where any will do."""
    field = node._get_node(key)
    assert field is not None and not isinstance(field, list)
    if isinstance(field, DictConfig):
        words = f"set by its fields, {key}.FIELD=VALUE: {', '.join(map(str, field))}"
    elif isinstance(field, ListConfig):
        words = f"a list, [a,b], each {TYPES.get(field._metadata.element_type, 'a value')}"
    else:
        words = TYPES.get(field._metadata.ref_type, "")
    return f"{words} or null" if words and field._is_optional() else words


def _no_phase(phase: str, given: str) -> str:
    return f"{given}: there is no phase {phase.removeprefix('phase')}; add one by +{phase}=NAME"


def _misplaced(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """What OmegaConf lets pass in a typed tree: keys appended by +, a part's name without its parameters."""
    fields = {field.name: field.default for field in dataclasses.fields(OmegaConf.get_type(node))}  # type: ignore[arg-type]
    if _is_part(node) and "name" in fields and node.name != fields["name"]:
        part = prefix.removesuffix(".")
        choice = f"+{part.removesuffix('.objective')}" if part.endswith(".objective") else part
        yield f"{part} is {fields['name']}, and name={node.name} does not change that; write {choice}={node.name}"
    for key in map(str, node):
        name, kind = f"{prefix}{key}", OmegaConf.get_type(node, key)
        if key not in fields:
            yield _unknown(name, node, prefix)
        elif OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key) or node[key] is None:
            continue
        elif name in LATER_PHASES and kind is not PhaseConfig:
            yield _no_phase(name, f"{name}.{next(iter(node[key]), '')}")
        elif isinstance(node[key], DictConfig) and dataclasses.is_dataclass(kind):
            yield from _misplaced(node[key], f"{name}.")
        elif key == "objective":
            yield f"{name}={node[key]}: choose the objective of a phase by +{prefix.removesuffix('.')}=NAME"


def _is_part(node: DictConfig) -> bool:
    """Whether the fields of `node` are those of a registered part."""
    kind = OmegaConf.get_type(node)
    return dataclasses.is_dataclass(kind) and kind.__module__ != PhaseConfig.__module__


def _unknown(key: str, node: DictConfig, prefix: str = "") -> str:
    """An unknown key below `node`: whose it would be or those like it, and those beside it."""
    keys = [*_keys(node, prefix), *LATER_PHASES]
    known = [name for name in keys if not f"{key}.".startswith(f"{name}.") and not name.startswith(f"{key}.")]
    parent, _, last = key.rpartition(".")
    siblings = [name for name in known if parent and name.rpartition(".")[0] == parent]
    owners = [name for name in _options(parent) if last in _stored(parent, name)] if parent in GROUPS else []
    elsewhere = [name for name in known if name.endswith(f".{last}")]
    if owners:
        hint = f" It belongs to {' and '.join(f'{parent}={name}' for name in owners)}."
    elif elsewhere:
        hint = f" Did you mean {' or '.join(map(repr, elsewhere[:3]))}?"
    else:
        hint = nearest(key, siblings or known)
    if siblings:
        hint += f" Keys there: {', '.join(name.rpartition('.')[2] for name in siblings)}."
    elif parent in keys:
        hint = f" {parent}={OmegaConf.select(node, parent.removeprefix(prefix))} has no parameters."
    return f"unknown key '{key}'.{hint}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _stored(group: str, name: str) -> DictConfig:
    stored = ConfigStore.instance().load(f"{group}/{name}.yaml").node
    assert isinstance(stored, DictConfig)
    return stored


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key that can be set, level by level."""
    for key in node if isinstance(node, DictConfig) else ():
        if not (key == "name" and _is_part(node)):
            yield f"{prefix}{key!s}"
        if isinstance(key, str) and not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            yield from _keys(node[key], f"{prefix}{key}.")
