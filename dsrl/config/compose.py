"""Composition of the command line, and its errors in the user's words."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dsrl.config.run_config import LATER_PHASES, RunConfig
from dsrl.config.store import GROUPS, config_dir, store_registry
from dsrl.errors import ConfigError, nearest
from dsrl.registry import names


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """The checked configuration of a command line, e.g. `compose(["objective=nsr_prerl", "+phase2=grpo"])`.

    Raises ConfigError with one readable message.
    """
    store_registry()
    return RunConfig.of(_composed(list(overrides)))


def check_command_line(overrides: Sequence[str]) -> None:
    """Compose and check every job that a command line asks for, those of a sweep included. Raises ConfigError."""
    store_registry()
    for job in _jobs(overrides):
        RunConfig.of(_composed(job))


def explicit(overrides: Sequence[str]) -> list[str]:
    """Overrides in which a mapping replaces what stood there, as a name does, where Hydra would merge the two.

    `objective.surrogate={name: cispo}` must not keep the clip range of the surrogate before it.
    """
    whole: list[str] = []
    for text, override in zip(overrides, _parsed(overrides), strict=True):
        value = override.value()
        if isinstance(value, dict) and ("name" in value or override.key_or_group.endswith(".objectives")):
            whole.append(f"{override.key_or_group}=null")
        whole.append(text)
    return whole


def _composed(overrides: list[str]) -> DictConfig:
    for override in _parsed(overrides):
        _check_name(override)
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return hydra_compose("train", explicit(overrides))
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(_explained(error, overrides)) from error


def _parsed(overrides: Sequence[str]) -> list[Override]:
    parser, parsed = OverridesParser.create(), []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            hint = "write KEY=VALUE, and quote a value that holds spaces or special characters"
            raise ConfigError(f"cannot read '{text}' of the command line: {hint}") from error
    return parsed


def _jobs(overrides: Sequence[str]) -> Iterator[list[str]]:
    """The command lines of a sweep's jobs; just the one where nothing is swept."""
    choices = [
        [f"{text.split('=', 1)[0]}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [text]
        for text, override in zip(overrides, _parsed(overrides), strict=True)
    ]
    yield from map(list, itertools.product(*choices))


def _check_name(override: Override) -> None:
    """Unknown names among a registered kind, with the nearest one."""
    kind = "objective" if override.key_or_group in LATER_PHASES else override.key_or_group
    value = override.value()
    if kind in GROUPS and value is None and not override.is_delete():
        raise ConfigError(f"{override.key_or_group}=null: a name is needed; registered are {', '.join(names(kind))}")
    if kind in GROUPS and isinstance(value, str) and value not in names(kind):
        known, given = names(kind), f"{override.key_or_group}={value}"
        raise ConfigError(f"{given}: no such {kind}; registered are {', '.join(known)}.{nearest(value, known)}")


def _explained(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's and OmegaConf's message as the user needs it: the key, the value, what is allowed, the nearest name."""
    cause: BaseException = error
    while not isinstance(cause, OmegaConfBaseException) and cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(error).strip()
    for group in LATER_PHASES:
        if f"'{group}'" in text or f"override {group}" in text or f"{group}=" in text:
            if "appears more than once" in text or "Multiple values" in text:
                return f"+{group} is given twice, or an experiment sets {group}, where plain {group}=NAME is right"
            if "Could not override" in text or "No match" in text:
                return f"{group} is not set yet: write +{group}=NAME"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        key, value = str(cause.full_key), _given(str(cause.full_key), overrides)
        if "not in" in str(cause):
            return f"unknown key '{key}'.{_nearest_key(key, overrides)}"
        return f"{key}={value}: {str(cause).splitlines()[0]}"
    if unknown := re.search(r"Could not override '([^']+)'", text):
        return f"unknown key '{unknown[1]}'.{_nearest_key(unknown[1], overrides)}"
    if missing := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, name = missing[1], missing[2]
        known = sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))
        return f"{group}={name}: no such {group}; there are {', '.join(known)}.{nearest(name, known)}"
    return text.split("\nSet the environment variable")[0]


def _given(key: str, overrides: Sequence[str]) -> str:
    given = {text.split("=", 1)[0].lstrip("+~"): text.split("=", 1)[-1] for text in overrides}
    return given.get(key, "?")


def _nearest_key(key: str, overrides: Sequence[str]) -> str:
    """The keys of the level at which an unknown key stands, or the nearest among all keys."""
    chosen = [text for text in overrides if "." not in text.split("=", 1)[0]]
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            known = [*_keys(hydra_compose("train", chosen)), *LATER_PHASES]
    except (HydraException, OmegaConfBaseException):
        return ""
    hint = nearest(key, [name for name in known if not key.startswith(f"{name}.")])
    parent = key.rpartition(".")[0]
    siblings = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == parent]
    return hint + (f" Keys there: {', '.join(siblings)}." if siblings and parent else "")


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for key in node if isinstance(node, DictConfig) else ():
        yield f"{prefix}{key!s}"
        if isinstance(key, str) and not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            yield from _keys(node[key], f"{prefix}{key}.")
