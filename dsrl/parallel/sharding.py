"""A model's weights where each rank holds a part of them: whole tensors, norms and copies, whatever shards them.

FSDP2 makes parameters DTensors, FSDP1 views into flat ones; plain and DDP models hold them whole. Everything here but
`is_sharded` is a collective: every rank calls it, and takes every tensor that it yields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP1
from torch.distributed.tensor import DTensor

from dsrl.parallel.collectives import all_sum


def is_sharded(model: nn.Module) -> bool:
    """Whether a rank holds only a part of the weights, and a forward is a collective."""
    return any(isinstance(module, FSDPModule | FSDP1) for module in model.modules())


def full_tensor(tensor: Tensor) -> Tensor:
    """The tensor that a DTensor is a part of; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def full_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter, whole, by its name in the unwrapped model, one at a time; tied ones come once.

    FSDP1 puts one unit together at a time, a transformer block.
    """
    seen: set[int] = set()
    if not any(isinstance(module, FSDP1) for module in model.modules()):
        yield from ((name, full_tensor(parameter)) for name, parameter in model.named_parameters())
        return
    for prefix, unit in _units(model):
        with FSDP1.summon_full_params(unit, recurse=False, writeback=False):
            for name, parameter in _own_parameters(unit):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield f"{prefix}{name}", parameter.clone()  # the gathered memory is let go of again


def parameter_count(model: nn.Module) -> int:
    """Parameters of the whole model, tied ones once."""
    count = sum(parameter.numel() for parameter in model.parameters())
    if any(isinstance(module, FSDP1) for module in model.modules()):  # these are of this rank's part
        return round(all_sum([count])[0])
    return count


def clip_gradients(model: nn.Module, limit: float) -> float:
    """Scale the gradients of all parameters to a total norm of at most `limit` (0: leave them). The norm before."""
    limit = limit or math.inf
    if isinstance(model, FSDP1):
        return float(model.clip_grad_norm_(limit))
    return float(full_tensor(torch.nn.utils.clip_grad_norm_(model.parameters(), limit)))


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give the target the source's weights. Both are the same model, sharded in the same way.

    After a forward without gradient the root unit of a sharded model stays whole; a copy into its parts alone would
    leave the embeddings, the head and the norm stale. So the units are taken apart first.
    """
    for model in (source, target):
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
    if isinstance(source, FSDP1):
        for (_, unit), (_, copy) in zip(_units(source), _units(target), strict=True):
            with (
                FSDP1.summon_full_params(unit, recurse=False, writeback=False),
                FSDP1.summon_full_params(copy, recurse=False, writeback=True),
            ):
                for (_, parameter), (_, its_copy) in zip(_own_parameters(unit), _own_parameters(copy), strict=True):
                    its_copy.copy_(parameter)
        return
    for parameter, its_copy in zip(source.parameters(), target.parameters(), strict=True):
        its_copy.copy_(parameter)


def _units(model: nn.Module) -> Iterator[tuple[str, FSDP1]]:
    """FSDP1's units, outermost first, with the prefix of their parameters' names."""
    for name, module in model.named_modules():
        if isinstance(module, FSDP1):
            prefix = name.replace("_fsdp_wrapped_module.", "").removesuffix("_fsdp_wrapped_module")
            yield (f"{prefix}." if prefix else ""), module


def _own_parameters(unit: FSDP1) -> Iterator[tuple[str, nn.Parameter]]:
    """A unit's parameters without those of the units inside it."""
    inner = tuple(name for name, module in unit.module.named_modules() if isinstance(module, FSDP1))
    for name, parameter in unit.module.named_parameters():
        if not name.startswith(tuple(f"{prefix}." for prefix in inner)):
            yield name, parameter
