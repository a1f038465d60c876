"""The registry as Hydra sees it: every registered name is an option of its group, without a YAML file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from dsrl.config.schema import PhaseConfig, TrainSchema
from dsrl.registry import KINDS, config_schema, load_plugins, names, parse_spec, registered_parts

GROUPS = ("objective", "data", "sampler", "verifier")
"""Kinds that are chosen at the top level of a configuration."""
LATER_PHASES = ("phase2", "phase3", "phase4", "phase5")
OPTIONAL = (*LATER_PHASES, "probe")
"""Groups of which a run needs none: chosen by +GROUP=NAME."""

_stored: dict[str, dict[str, Any]] = {}

# Hydra copies the whole store at each composition, for a third of its time, and only ever reads the copy: what it takes
# out is copied again. The store is a singleton, and now its own copy.
ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]


def config_dir() -> Path:
    """Find the folder of the YAML configs: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    return next(path for path in (package / "configs", package.parent / "configs") if path.is_dir())


def store_registry() -> None:
    """Load plugins and fill Hydra's ConfigStore: the typed root, the parts, and objectives as phases 2 to 5.

    Where nothing has been registered since the last time, the store is left as it is.
    """
    load_plugins()
    registered = {kind: dict(registered_parts[kind]) for kind in KINDS}
    if registered == _stored:
        return
    known = {kind: names(kind) for kind in KINDS}
    store = ConfigStore.instance()
    root = OmegaConf.structured(TrainSchema)
    root.monitors = {name: _node("monitor", name, known) for name in known["monitor"] if not _needs_values(name)}
    store.store(name="train_schema", node=root)
    for group in (*GROUPS, "probe"):
        for name in known[group]:
            store.store(group=group, name=name, node=_node(group, name, known))
    for name in known["objective"]:
        phase = OmegaConf.structured(PhaseConfig)
        phase.objective = store.load(f"objective/{name}.yaml").node
        for group in LATER_PHASES:
            phase.start = "${model.phase1_iterations}" if group == "phase2" else MISSING
            store.store(group=group, name=name, node=phase)
    OmegaConf.register_new_resolver("dsrl.home", os.path.expanduser, replace=True)
    _stored.update(registered)


def _needs_values(monitor: str) -> bool:
    """Whether a monitor cannot run as it is, since it has a parameter without a default."""
    return any(field.default == MISSING for field in dataclasses.fields(config_schema("monitor", monitor)))


def _node(kind: str, name: str, known: Mapping[str, Sequence[str]]) -> DictConfig:
    """Make a part's typed parameters; parts within it that take parameters of their own are written out, so that
    `objective.surrogate.clip_high=0.28` can be set. Mappings of free keys stay open to new ones.
    """
    made = config_schema(kind, name)
    node: DictConfig = OmegaConf.structured(made)
    for field in dataclasses.fields(made):
        if field.name in known and field.type is Any:
            spec = OmegaConf.to_container(node)[field.name]  # type: ignore[call-overload,index]
            part, given = parse_spec(field.name, spec) if isinstance(spec, str | dict) else ("", {})
            if part in known[field.name] and len(dataclasses.fields(config_schema(field.name, part))) > 1:
                node[field.name] = _node(field.name, part, known)
                node[field.name].merge_with(given)
        elif OmegaConf.get_type(node, field.name) is dict and not OmegaConf.is_missing(node, field.name):
            OmegaConf.set_struct(node[field.name], False)
    return node
