"""Two checkpoints, compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from dsrl.storage.checkpoint_files import read_checkpoint

OF_THE_MOMENT = ("time/", "throughput/", "memory/")


def contents(path: Path) -> dict[str, Any]:
    """All of a checkpoint, a file or a folder, but the configuration, in which two runs differ."""
    found = read_checkpoint(path)
    del found["dsrl"]["config"]
    return found | {part.name: load_file(part) for part in (path.glob("*.safetensors") if path.is_dir() else ())}


def apart(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Find the places where two contents differ, apart from times."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {*one, *other}:
            if str(key).startswith(OF_THE_MOMENT):
                continue
            if key not in one or key not in other:
                yield f"{place}/{key}"
            else:
                yield from apart(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from apart(*pair, f"{place}/{number}")
    elif isinstance(one, torch.Tensor):
        if not torch.equal(one, other):
            yield place
    elif one != other:
        yield f"{place}: {one} {other}"
