"""The policy's tensors by the names and in the form of its checkpoints, which is what engines read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion

from dsrl.parallel.sharding import unwrapped


@torch.no_grad()
def checkpoint_tensors(
    model: nn.Module, named_tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters as `dtype`, and then the buffers that checkpoints hold, in their own dtype.

    Transformers holds the experts of a layer together, and calls some modules by other names than checkpoints do.

    Args:
        model: the policy's.
        named_tensors: its full parameters by their names in transformers. All are taken, whatever becomes of them.
        dtype: of parameters. Buffers are few and small, and some, such as a router's, count in float32 only.
    """
    inner = unwrapped(model)
    for name, tensor in named_tensors:
        yield from revert_weight_conversion(inner, {name: tensor.to(dtype)}).items()
    for name, tensor in _persistent_buffers(inner):
        yield from revert_weight_conversion(inner, {name: tensor}).items()


def _persistent_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for prefix, module in model.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                yield f"{prefix}.{name}".replace("_fsdp_wrapped_module.", ""), buffer
