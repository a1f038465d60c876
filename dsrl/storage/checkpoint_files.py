"""Checkpoints on disk: one file, or a folder with a part from each rank.

A file holds everything: weights, the optimizer's state, and the rest (phases, progress, configuration), as tensors and
plain values. A folder holds the rest in `state.pt` and the tensors in safetensors files, from which any number of ranks
reads what it needs. Neither can run code when it is read, and each appears under its name when it is complete.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dsrl.errors import DSRLError
from dsrl.storage.atomic import atomic, move_into_place, partial_path, remove
from dsrl.storage.safetensors_files import tensors_in

REST = "state.pt"
"""The file of a folder that holds all but the tensors."""

FILE_BYTES = 2**28
"""Bytes in one safetensors file of a folder, about."""

warnings.filterwarnings("ignore", ".*torch.distributed is disabled")  # one process reads and writes folders, too


class UnreadableCheckpoint(DSRLError):
    """A checkpoint that is truncated, damaged, or not one of dsrl."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint: of a file everything, its tensors mapped into memory; of a folder all but the tensors.

    Raises UnreadableCheckpoint.
    """
    try:
        checkpoint = torch.load(path / REST if path.is_dir() else path, "cpu", weights_only=True, mmap=True)
        checkpoint["dsrl"]["config"], checkpoint["dsrl"]["iterations_done"]
        if path.is_dir():
            tensors_in(path)
    except Exception as error:  # whatever a damaged file leads the reader into
        raise UnreadableCheckpoint(f"{path}: not a readable checkpoint of dsrl ({type(error).__name__})") from error
    assert isinstance(checkpoint, dict)
    return checkpoint


def write_file(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint as one file."""
    with atomic(path) as partial:
        _write(checkpoint, partial)


def write_folder(
    rest: dict[str, Any], tensors: dict[str, dict[str, Tensor]], path: Path, *, main: bool, barrier: Callable[[], None]
) -> None:
    """Write a checkpoint as a folder. Every rank calls it with its own parts.

    Args:
        rest: all but the tensors, as plain values.
        tensors: tensors and DTensors by part (model, optimizer) and name.
        path: the folder, the same on every rank.
        main: whether this rank writes `rest` and moves the folder to its place.
        barrier: waits for all ranks.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    partial = partial_path(path)
    if main:
        remove(partial)
        partial.mkdir(parents=True)
    barrier()
    writer = HuggingFaceStorageWriter(str(partial), _files(tensors), save_distributed=True)
    save(tensors, storage_writer=writer, no_dist=not dist.is_initialized())
    if main:
        _write(rest, partial / REST)
    barrier()
    if main:
        move_into_place(partial, path)


def _files(tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, int]:
    """Number the file of each tensor, from 1. A file is put together in memory, so none may be large."""
    files, bytes_before = {}, 0
    for part, named in tensors.items():
        for name, tensor in named.items():
            files[f"{part}.{name}"] = bytes_before // FILE_BYTES + 1
            bytes_before += tensor.numel() * tensor.element_size()
    return files


def _write(content: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
