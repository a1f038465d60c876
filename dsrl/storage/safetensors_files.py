"""Tensors in files: read from the safetensors of a Hugging Face model, or of a checkpoint with a part from each rank,
or laid out on disk while they are collected.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def tensors_in(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """List the shape and dtype of every tensor by its name, without reading any; parts are put together."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    entries = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: (entry.size, entry.properties.dtype) for name, entry in entries.items()}  # type: ignore[union-attr]


def read_tensors(folder: Path, into: dict[str, Any]) -> None:
    """Fill the tensors and DTensors of `into`, nested by name, from the files. Each rank reads its own parts alone."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    load(into, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=not dist.is_initialized())


def on_disk(tensor: Tensor, path: Path) -> Tensor:
    """Copy a tensor into a new file, and return it mapped from there. It takes no memory that the system could need."""
    if not tensor.numel():
        return tensor.detach().cpu()
    kept = torch.from_file(str(path), shared=True, size=tensor.numel(), dtype=tensor.dtype).view(tensor.shape)
    return kept.copy_(tensor.detach())
