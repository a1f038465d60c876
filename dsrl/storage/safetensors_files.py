"""Tensors in files: read from the safetensors of a Hugging Face model, or of a checkpoint with a part from each rank,
or laid out on disk while they are collected.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dsrl.errors import DSRLError
from dsrl.storage.disk_errors import system_error_in


def tensors_in(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """List the shape and dtype of every tensor by its name, without reading any; parts are put together."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    entries = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: (entry.size, entry.properties.dtype) for name, entry in entries.items()}  # type: ignore[union-attr]


def read_tensors(folder: Path, into: dict[str, Any], group: dist.ProcessGroup | None = None) -> None:
    """Fill the tensors and DTensors of `into`, nested by name, from the files. Each rank reads its own parts alone.

    Args:
        folder: where the files are.
        into: what to fill.
        group: the ranks, which wait for each other in it; by default all, with the time limit of all collectives.

    Raises:
        DSRLError: some rank could not read its parts.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    try:
        load(into, storage_reader=reader, process_group=group, no_dist=not dist.is_initialized())
    except CheckpointException as error:
        raise DSRLError(f"{folder}: cannot be read: {cause_of(error)}") from error


def cause_of(error: Any) -> str:
    """Name the first rank that failed in a `CheckpointException`, and its error: of the disk, the system's reason."""
    rank, (cause, _) = next(iter(error.failures.items()))
    of_system = system_error_in(cause)
    reason = f"{type(cause).__name__}: {cause}" if of_system is None else os.strerror(of_system.errno or 0)
    return f"rank {rank}: {reason}"


def on_disk(tensor: Tensor, path: Path) -> Tensor:
    """Copy a tensor into a new file, and return it mapped from there. It takes no memory that the system could need.

    Raises OSError where there is no room for it: a mapping alone would end the process at the first page without one.
    """
    if not tensor.numel():
        return tensor.detach().cpu()
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, tensor.nbytes)
    kept = torch.from_file(str(path), shared=True, size=tensor.numel(), dtype=tensor.dtype).view(tensor.shape)
    return kept.copy_(tensor.detach())
