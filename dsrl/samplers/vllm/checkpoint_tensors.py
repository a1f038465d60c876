"""The policy's tensors by the names and in the form of its checkpoints, which is what engines read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from dsrl.models.buffers import persistent_buffers


@torch.no_grad()
def checkpoint_tensors(
    model: nn.Module, named_tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters as `dtype`, and the buffers that checkpoints hold in their own.

    Transformers holds the experts of a layer together, and calls some modules by other names than checkpoints do.

    Args:
        model: the policy's.
        named_tensors: those of `Policy.named_tensors`. All are taken, whatever becomes of them.
        dtype: of parameters. Buffers are few and small, and some, such as a router's, count in float32 only.
    """
    from transformers.core_model_loading import revert_weight_conversion  # these take seconds to load

    from dsrl.parallel.sharding import unwrapped

    inner = unwrapped(model)
    buffers = {name for name, _ in persistent_buffers(inner)}
    for name, tensor in named_tensors:
        sent = tensor if name in buffers else tensor.to(dtype)
        yield from revert_weight_conversion(inner, {name: sent}).items()
