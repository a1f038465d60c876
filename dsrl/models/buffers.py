"""Buffers that belong to a model as its weights do: those of routers of experts, the scales of Gemma-4's layers."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from dsrl.parallel.plain_names import plain_name


def persistent_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that a file of the model holds, by their names in it. Every rank has them in full."""
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(prefix, recurse=False):
            if name.rpartition(".")[2] not in module._non_persistent_buffers_set:
                yield plain_name(name), buffer
