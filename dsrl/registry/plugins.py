"""Importing the modules that register parts: the built-in ones, and plugins."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import os
from collections.abc import Callable
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

_loaded: set[str] = set()


def load_plugins() -> None:
    """Import the built-in parts, then every plugin: entry points of group `dsrl.plugins`, then modules in DSRL_PLUGINS.

    An entry is a module, or a callable that registers. Each is loaded once. Raises ConfigError that names the plugin
    which failed.
    """
    for module in BUILT_IN:
        importlib.import_module(module)
    for entry in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        _load_once(f"{PLUGIN_GROUP}:{entry.name} = {entry.value}", entry.load)
    for module in filter(None, (part.strip() for part in os.environ.get(PLUGIN_VARIABLE, "").split(","))):
        _load_once(f"{PLUGIN_VARIABLE}:{module}", functools.partial(importlib.import_module, module))


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
