"""Handle weights that ranks hold parts of: full tensors, norms and copies, whatever shards them.

FSDP2 makes parameters DTensors, FSDP1 makes them views into flat ones; plain and DDP models hold full ones. What
gathers, counts, clips or copies is a collective: every rank calls it, and takes every tensor that it yields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP1
from torch.distributed.tensor import DTensor

from dsrl.parallel.collectives import all_sum, mean_over_ranks, own_rank, world_size
from dsrl.parallel.plain_names import plain_name


def is_sharded(model: nn.Module) -> bool:
    """Tell whether a rank holds only a part of the weights, so that a forward is a collective."""
    return any(isinstance(module, FSDPModule | FSDP1) for module in model.modules())


def unwrapped(model: Any) -> Any:
    """Take the model out of FSDP1's wrapper; any other as it is."""
    return model.module if isinstance(model, FSDP1) else model


def compute_device(model: nn.Module) -> torch.device:
    """Find the device on which a model computes: that of its weights, unless these are parts that are offloaded."""
    weight = next(model.parameters())
    if isinstance(weight, DTensor) and weight.device_mesh.device_type != weight.device.type:
        return torch.device(weight.device_mesh.device_type, torch.accelerator.current_device_index())
    return weight.device


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather the full tensor of a DTensor; any other tensor is returned as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def compute_dtype(model: nn.Module) -> torch.dtype:
    """Tell the dtype in which a model computes outside of autocast: FSDP may gather weights in another than theirs."""
    given = None
    if isinstance(model, FSDP1):
        given = model.mixed_precision and model.mixed_precision.param_dtype
    elif isinstance(model, FSDPModule):
        given = model._get_fsdp_state()._mp_policy.param_dtype
    return given or next(model.parameters()).dtype


def reshard(model: nn.Module) -> None:
    """Let go of the weights that FSDP2 holds gathered: after a forward without gradient, those of the root unit.

    Meanwhile the root's parameters are the gathered ones, in the dtype of the compute, and not its parts. FSDP1 keeps
    its root until the next backward.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def drop_gradients(model: nn.Module) -> None:
    """Let go of all gradients. FSDP1 would keep its flat ones until the weights are gathered the next time."""
    model.zero_grad(set_to_none=True)
    for module in model.modules():
        if isinstance(module, FSDP1) and module._handle is not None:
            module._handle.flat_param.grad = None


@torch.no_grad()
def gradient_parts(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield this rank's part of each trained parameter's gradient, flat, by the parameter's name; a collective.

    The gradient is the mean over ranks, 0 where nothing was computed. Of all ranks together, each of its numbers comes
    once: FSDP has dealt the parts out, and of full gradients, each rank's own, every rank takes its share of the mean.
    """
    reshard(model)
    sharded, rank, ranks = is_sharded(model), own_rank(), world_size()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if isinstance(gradient, DTensor):
            mesh, part = gradient.device_mesh, gradient.to_local().flatten()
            # in HSDP the first dimension is that of copies, of which all hold the same
            part = part[mesh.get_local_rank(0) :: mesh.size(0)] if mesh.ndim == 2 else part
        elif sharded or ranks == 1:
            part = gradient.flatten()
        else:
            part = mean_over_ranks(gradient).flatten()[rank::ranks]
        yield plain_name(name), part


@torch.no_grad()
def full_parameters(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield every full parameter by its name in the unwrapped model, one at a time; tied ones come once.

    Under FSDP1 one unit, a transformer block, is gathered at a time.

    Args:
        model: the model, which is resharded first.
        dtype: what parameters are cast to, under FSDP2 before ranks exchange them; None: they stay as they are.
    """
    seen: set[int] = set()
    reshard(model)
    if not any(isinstance(module, FSDP1) for module in model.modules()):
        yield from ((name, full_tensor(parameter.to(dtype))) for name, parameter in model.named_parameters())
        return
    for prefix, unit in _units(model):
        with FSDP1.summon_full_params(unit, recurse=False, writeback=False):
            for name, parameter in _own_parameters(unit):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    # a copy, since the gathered memory is let go of again
                    yield f"{prefix}{name}", parameter.to(dtype, copy=True)


def parameter_count(model: nn.Module) -> int:
    """Count the parameters of the full model, tied ones once."""
    count = sum(parameter.numel() for parameter in model.parameters())
    if any(isinstance(module, FSDP1) for module in model.modules()):  # these are of this rank's part
        return round(all_sum([count])[0])
    return count


def clip_gradients(model: nn.Module, limit: float) -> float:
    """Scale the gradients of all parameters to a total norm of at most `limit`; 0 means no limit.

    Returns the norm before.
    """
    limit = limit or math.inf
    if isinstance(model, FSDP1):
        return float(model.clip_grad_norm_(limit))
    return float(full_tensor(torch.nn.utils.clip_grad_norm_(model.parameters(), limit)))


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the source's weights into the target. Both must be the same model, sharded in the same way.

    Both are resharded first: a copy into a gathered root unit would leave its parts as they were.
    """
    for model in (source, target):
        reshard(model)
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
    """Yield FSDP1's units, outermost first, with the prefix of their parameters' names."""
    for name, module in model.named_modules():
        if isinstance(module, FSDP1):
            prefix = plain_name(name)
            yield (f"{prefix}." if prefix else ""), module


def _own_parameters(unit: FSDP1) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield a unit's parameters without those of the units inside it."""
    inner = tuple(name for name, module in unit.module.named_modules() if isinstance(module, FSDP1))
    for name, parameter in unit.module.named_parameters():
        if not name.startswith(tuple(f"{prefix}." for prefix in inner)):
            yield name, parameter
