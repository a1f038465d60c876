"""Checkpoints on disk: one file, or a folder with a part from each rank.

A file holds everything: weights, the optimizer's state, and the rest (phases, progress, configuration), as tensors and
plain values. A folder holds the rest in `state.pt` and the tensors in safetensors files, from which any number of ranks
reads what it needs. Neither can run code when it is read, and each appears under its name when it is complete.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
import torch.distributed as dist
from torch import Tensor

from dsrl.errors import DSRLError
from dsrl.storage.atomic import atomic, move_into_place, partial_path, remove
from dsrl.storage.disk_errors import writing
from dsrl.storage.safetensors_files import cause_of, tensors_in

REST = "state.pt"
"""The file of a folder that holds all but the tensors."""

FILE_BYTES = 2**28
"""Bytes in one safetensors file of a folder, about."""

warnings.filterwarnings("ignore", ".*torch.distributed is disabled")  # one process reads and writes folders, too


class UnreadableCheckpoint(DSRLError):
    """A checkpoint that is truncated, damaged, or not one of dsrl."""


def read_checkpoint(path: Path, *, verify: bool = False) -> dict[str, Any]:
    """Read a checkpoint: of a file everything, its tensors mapped into memory; of a folder all but the tensors.

    Args:
        path: the file or folder.
        verify: read all of it once, and compare it with the sums that a file holds of its parts: tensors that are
            mapped into memory would be taken as they are. Safetensors files of a folder hold none.

    Raises:
        UnreadableCheckpoint: it is none, or is damaged.
    """
    try:
        checkpoint = torch.load(path / REST if path.is_dir() else path, "cpu", weights_only=True, mmap=True)
        checkpoint["dsrl"]["config"], checkpoint["dsrl"]["iterations_done"]
        if path.is_dir():
            tensors_in(path)
        damaged = _damaged_part(path / REST if path.is_dir() else path) if verify else None
    except Exception as error:  # whatever a damaged file leads the reader into
        raise UnreadableCheckpoint(f"{path}: not a readable checkpoint of dsrl ({type(error).__name__})") from error
    if damaged is not None:
        raise UnreadableCheckpoint(f"{path}: damaged since it was written ({damaged} has another sum)")
    assert isinstance(checkpoint, dict)
    return checkpoint


def _damaged_part(file: Path) -> str | None:
    """The first part of a file, which is a zip archive, whose CRC-32 is another than the one written beside it."""
    with ZipFile(file) as archive:
        return archive.testzip()


def write_file(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint as one file."""
    with atomic(path) as partial:
        _write(checkpoint, partial)


def write_folder(
    rest: dict[str, Any], tensors: dict[str, dict[str, Tensor]], path: Path, *, group: dist.ProcessGroup | None
) -> Future[None]:
    """Begin to write a checkpoint as a folder. Every rank calls it with its own parts.

    On return all is copied to the CPU's memory, so that training may go on. A thread writes the copies, and then the
    first rank moves the folder to its place.

    Args:
        rest: all but the tensors, as plain values.
        tensors: tensors and DTensors by part (model, optimizer) and name.
        path: the folder, the same on every rank.
        group: all ranks, with a backend for the CPU, in which nothing else communicates; None for one process.

    Returns:
        What is done, on the first rank, once the folder is complete, and on others once all parts are written; or what
        holds the DSRLError of a part that could not be.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import async_save

    partial, main = partial_path(path), group is None or dist.get_rank() == 0
    if main:
        with writing(path):
            remove(partial)
            partial.mkdir(parents=True)
            _write(rest, partial / REST)
    if group is not None:
        dist.barrier(group)
    writer = HuggingFaceStorageWriter(str(partial), _files(tensors), save_distributed=True)
    written: Any = async_save(tensors, storage_writer=writer, process_group=group, no_dist=group is None)
    complete: Future[None] = Future()

    def finish(done: Future[Any]) -> None:
        try:
            with writing(path):
                done.result()
                if main:
                    move_into_place(partial, path)
        except CheckpointException as error:
            if main:
                with suppress(OSError):
                    remove(partial)  # others may need its room
            complete.set_exception(DSRLError(f"{path}: cannot be written: {cause_of(error)}"))
        except BaseException as error:
            complete.set_exception(error)
        else:
            complete.set_result(None)

    written.add_done_callback(finish)
    return complete


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
