"""Importing the modules that register parts: the built-in ones, and plugins."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import logging
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsrl.errors import ConfigError

BUILT_IN = (
    "dsrl.objectives",
    "dsrl.verifiers",
    "dsrl.samplers",
    "dsrl.data",
    "dsrl.phases.conditions",
    "dsrl.monitors",
    "dsrl.thoughts",
    "dsrl.probes.alignment",
)
PLUGIN_GROUP = "dsrl.plugins"
PLUGIN_VARIABLE = "DSRL_PLUGINS"
OWN = str(Path(__file__).parents[1])
"""The folder of this package."""

_loaded: set[str] = set()
_failed: dict[str, str] = {}

logger = logging.getLogger(__name__)


def load_plugins() -> None:
    """Import the built-in parts, then every plugin: entry points of group `dsrl.plugins`, then modules in DSRL_PLUGINS.

    An entry is a module, or a callable that registers. Each is loaded once. One that fails is told of by a warning, and
    by `failures`: what a command does not use must not break it. Raises ConfigError for a module in DSRL_PLUGINS that
    is not there.
    """
    for module in BUILT_IN:
        importlib.import_module(module)
    for entry in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        _load_once(f"{PLUGIN_GROUP}:{entry.name} = {entry.value}", entry.load)
    for module in filter(None, (part.strip() for part in os.environ.get(PLUGIN_VARIABLE, "").split(","))):
        _load_once(f"{PLUGIN_VARIABLE}:{module}", functools.partial(importlib.import_module, module))


def failures() -> str:
    """Say which plugins could not be loaded, as an addition to a message; an empty string where all could."""
    return "".join(f" (plugin {label} failed to load: {message})" for label, message in _failed.items())


def _load_once(label: str, load: Callable[[], Any]) -> None:
    if label in _loaded:
        return
    _loaded.add(label)
    try:
        plugin = load()
        if callable(plugin) and not inspect.isclass(plugin):
            plugin()
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and label == f"{PLUGIN_VARIABLE}:{error.name}":
            _loaded.discard(label)
            raise ConfigError(f"plugin {label} failed to load: {error}") from error
        _note_failure(label, error)


def _note_failure(label: str, error: Exception) -> None:
    what = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
    lines = [one for one in traceback.extract_tb(error.__traceback__) if one.filename.endswith(".py")]
    foreign = [one for one in lines if "importlib" not in one.filename and not one.filename.startswith(OWN)]
    place = f" ({foreign[-1].filename}:{foreign[-1].lineno})" if foreign else ""
    _failed[label] = f"{what}{place}"
    logger.warning("plugin %s failed to load: %s%s; what it registers from there on is missing", label, what, place)
