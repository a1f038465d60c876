"""Let loggers of services go on with the run that they began: their ids are kept in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from lightning.pytorch.loggers import Logger

from dsrl.storage.atomic import atomic

FILE = "loggers.json"
IDS = {
    "WandbLogger": ("id", "version"),
    "MLFlowLogger": ("run_id", "run_id"),
    "CometLogger": ("experiment_key", "version"),
}
"""By the name of Lightning's class: the argument that takes an id, and the attribute that tells it."""


def known_id(folder: Path, name: str, spec: Mapping[str, Any]) -> dict[str, str]:
    """Give the argument by which a logger goes on, where the folder has its id and the configuration names no other.

    Args:
        folder: of the run that goes on.
        name: of the logger in the configuration.
        spec: its `_target_` and arguments.
    """
    kind = _kind_of(get_class(spec["_target_"]))
    if kind is None or spec.get(IDS[kind][0]) is not None or spec.get("version") is not None:
        return {}
    try:
        saved = json.loads((folder / FILE).read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError):  # of a version without it, or begun without this logger
        return {}
    return {IDS[kind][0]: saved["id"]} if saved["kind"] == kind else {}


def keep_ids(folder: Path, loggers: Mapping[str, Logger]) -> None:
    """Write down the ids of the loggers that have one, by their names in the configuration."""
    found = {}
    for name, logger in loggers.items():
        if (kind := _kind_of(type(logger))) and (own := getattr(logger, IDS[kind][1])) is not None:
            found[name] = {"kind": kind, "id": str(own)}
    if found:
        with atomic(folder / FILE) as partial:
            partial.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _kind_of(logger: type) -> str | None:
    return next((base.__name__ for base in logger.__mro__ if base.__name__ in IDS), None)
