"""The file in a model's folder that says of which world it is: `world.json`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from dsrl.errors import ConfigError
from dsrl.worlds import WORLDS, World

FILE = "world.json"


def save_world(world: World, folder: Path) -> None:
    """Write the world's name and values into a model's folder."""
    (name,) = (name for name, kind in WORLDS.items() if type(world) is kind)
    (folder / FILE).write_text(json.dumps({"world": name, **dataclasses.asdict(world)}, indent=2) + "\n")


def load_world(folder: Path) -> World:
    """Read the world of a model. Raises ConfigError where the folder does not say."""
    try:
        values = json.loads((folder / FILE).read_text())
        return WORLDS[values.pop("world")](**values)
    except FileNotFoundError:
        raise ConfigError(
            f"{folder}: holds no {FILE}, which says of which world a model is; "
            "`python -m dsrl.worlds.pretrain WORLD OUT` writes one"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{folder / FILE}: cannot be read: {error!r}") from error
