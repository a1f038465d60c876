"""The types of a run's numbers: what it computes in, and what ranks exchange."""

from __future__ import annotations

import torch

from dsrl.config.run_config import RunConfig
from dsrl.devices import cast_dtype
from dsrl.samplers.vllm.sampler import VLLMSampler


def bytes_of(dtype: str) -> int:
    """Count the bytes of a number of a type of torch, given by name."""
    found: torch.dtype = getattr(torch, dtype)
    return found.itemsize


def compute_dtype_of(config: RunConfig) -> str:
    """Name the type in which the policy computes, and in which sampler hf decodes, also with a copy."""
    return str(cast_dtype(config.trainer.precision) or config.model.dtype).removeprefix("torch.")


def gathered_bytes_of(config: RunConfig) -> int:
    """Count the bytes of a number that ranks exchange when the sampler gets new weights.

    FSDP2 casts before it gathers; FSDP1 cannot, and adapters are merged first.
    """
    if config.trainer.strategy == "fsdp1" or config.model.lora.rank:
        return bytes_of(config.model.dtype)
    sampler = config.sampler
    return bytes_of(sampler.dtype if isinstance(sampler, VLLMSampler) else compute_dtype_of(config))
