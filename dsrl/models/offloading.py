"""Keep what the backward pass will read in the CPU's memory meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from dsrl.config.schema import ModelConfig

SMALLEST = 2**20
"""Bytes; a smaller tensor stays where it is."""


def saving_of(model: ModelConfig) -> Callable[[], AbstractContextManager[Any]]:
    """Choose where the tensors of a pass wait for the backward pass."""
    return saved_on_host if model.activation_offloading else nullcontext


def pinned_copy(tensor: Tensor) -> Tensor:
    """Copy a tensor into page-locked memory of the CPU; one that is on the CPU stays as it is."""
    if tensor.device.type == "cpu":
        return tensor
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor)


def saved_on_host(copy: Callable[[Tensor], Tensor] = pinned_copy) -> saved_tensors_hooks:
    """Make a context in which a forward pass saves its tensors on the CPU, until the backward pass asks for them.

    With gradient checkpointing those are the inputs of the blocks, which grow with tokens and layers. Weights,
    integers and small tensors stay. No number changes.

    Args:
        copy: how a tensor gets to the CPU.
    """

    def pack(tensor: Tensor) -> tuple[Tensor, torch.device | None]:
        weight = isinstance(tensor if tensor._base is None else tensor._base, nn.Parameter)  # or a view of one
        stays = weight or not tensor.is_floating_point() or tensor.nbytes < SMALLEST
        kept = tensor if stays else copy(tensor)
        return kept, None if kept is tensor else tensor.device

    def unpack(kept: tuple[Tensor, torch.device | None]) -> Tensor:
        tensor, device = kept
        return tensor if device is None else tensor.to(device, non_blocking=True, copy=True)

    return saved_tensors_hooks(pack, unpack)
