"""Take turns with an engine in a GPU's memory: what the trainer's allocator does for it."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from dsrl.types import Metric, Metrics

ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Variables that hold the settings of torch's allocator; the first one given counts."""


def free_memory(model: nn.Module) -> None:
    """Give back to the GPU what the trainer's allocator holds and does not use, so that the engine finds it free.

    The update has left no gradients; what `model` still holds gathered of its sharded weights is let go of, too.
    """
    from dsrl.parallel.sharding import reshard  # loads FSDP

    reshard(model)
    gc.collect()
    torch.accelerator.empty_cache()


def memory_of_others(device: torch.device) -> Metrics:
    """Measure `memory/engine_gib`: what is taken of a GPU and not reserved by the trainer's allocator.

    With the engine awake that is its weights, keys and values, the CUDA contexts of both processes, and whatever other
    processes hold. On a CPU there is nothing to measure.
    """
    if device.type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(device)
    return {"memory/engine_gib": Metric.largest((total - free - torch.cuda.memory_reserved(device)) / 2**30)}


def without_expandable_segments(settings: str) -> str:
    """Switch `expandable_segments` off in settings of torch's allocator; all others stay."""
    return re.sub(r"(expandable_segments\s*:\s*)(true|1)\b", r"\g<1>False", settings, flags=re.IGNORECASE)


def engine_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Make the engine's variables of the allocator: vLLM's sleep needs segments that do not expand."""
    given = {name: environment[name] for name in ALLOCATOR_VARIABLES if name in environment}
    return {name: without_expandable_segments(settings) for name, settings in given.items()}


@contextmanager
def fixed_segments() -> Iterator[None]:
    """Allocate in segments that do not expand meanwhile, since CUDA IPC does not share those that do.

    The settings are those of the environment. Torch resets what a new setting leaves out, so all are written again.
    """
    given = next(filter(None, map(os.environ.get, ALLOCATOR_VARIABLES)), "")
    fixed = without_expandable_segments(given)
    if fixed == given:
        yield
        return
    torch._C._accelerator_setAllocatorSettings(fixed)
    try:
        yield
    finally:
        torch._C._accelerator_setAllocatorSettings(given)
