"""Checkpoints on disk: one file, or a folder with a part from each rank. There as a whole, or not at all.

A file holds everything: weights, the optimizer's state, and the rest (phases, progress, configuration), as tensors and
plain values. A folder holds `state.pt`, the rest, and the tensors in safetensors files, from which any number of ranks
reads what it needs. Neither can run code when it is read.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dsrl.errors import DSRLError

REST = "state.pt"
FILE_BYTES = 2**28
warnings.filterwarnings("ignore", ".*torch.distributed is disabled")  # one process reads and writes folders, too


class UnreadableCheckpoint(DSRLError):
    """A checkpoint that is truncated, damaged, or not one of dsrl."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A file's content, its tensors mapped into memory, or a folder's without the tensors.

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


def tensors_in(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of every tensor in a folder's safetensors, a checkpoint's or a model's, put together."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    entries = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: (entry.size, entry.properties.dtype) for name, entry in entries.items()}  # type: ignore[union-attr]


def read_tensors(path: Path, into: dict[str, Any]) -> None:
    """Fill tensors and DTensors, nested by name, from a folder's safetensors; each rank reads its parts alone."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    load(into, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=not dist.is_initialized())


def write_file(checkpoint: dict[str, Any], path: Path) -> None:
    """Write one file; what is on the disk before the last byte has another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    remove(partial)
    try:
        _write(checkpoint, partial)
        if path.is_dir():
            remove(path)
        partial.replace(path)
    finally:
        remove(partial)


def write_folder(
    rest: dict[str, Any], tensors: dict[str, dict[str, Tensor]], path: Path, *, main: bool, barrier: Callable[[], None]
) -> None:
    """Write a folder; every rank calls it with its own parts, the `main` one writes the rest.

    tensors: tensors and DTensors by part and name.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    partial = _partial(path)
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
        remove(path)
        partial.replace(path)


def remove(path: Path) -> None:
    """Delete a checkpoint, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, int]:
    """The file, from 1, of each tensor: a file is put together in memory, so that none is to be large."""
    files, bytes_before = {}, 0
    for part, named in tensors.items():
        for name, tensor in named.items():
            files[f"{part}.{name}"] = bytes_before // FILE_BYTES + 1
            bytes_before += tensor.numel() * tensor.element_size()
    return files


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _write(content: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
