"""Know what a run computes on, and in which precision, before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from dsrl.config.schema import CheckpointConfig, TrainerConfig


def device_type(accelerator: str) -> str:
    """Name the type of device, such as cpu or cuda, that `trainer.accelerator` gives on this machine."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator == "cpu" or found is None else found.type


SHARDED = ("fsdp", "fsdp1")
"""Values of `trainer.strategy` under which a rank holds a part of the weights."""


def precision_of(trainer: TrainerConfig) -> str:
    """Resolve `trainer.precision`: auto is bf16-mixed on a GPU whose hardware has bfloat16, elsewhere 32-true."""
    if trainer.precision != "auto":
        return trainer.precision
    on_gpu = device_type(trainer.accelerator) == "cuda"
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def described_precision(trainer: TrainerConfig) -> str:
    """Say in which precision a run computes; of float32 on a CUDA GPU also whether products are rounded to TF32."""
    precision = precision_of(trainer)
    if precision != "32-true" or device_type(trainer.accelerator) != "cuda":
        return precision
    return f"{precision} (TF32 {'on' if torch.backends.cuda.matmul.fp32_precision == 'tf32' else 'off'})"


def process_groups(trainer: TrainerConfig) -> str:
    """Name the backends of the run's process group: tensors of the CPU travel by gloo, those of a GPU by NCCL."""
    return "cpu:gloo,cuda:nccl" if device_type(trainer.accelerator) == "cuda" else "gloo"


def shards_checkpoints(trainer: TrainerConfig, checkpoint: CheckpointConfig) -> bool:
    """Tell whether each rank writes its part of a checkpoint: by default where it holds a part."""
    return trainer.strategy in SHARDED if checkpoint.sharded is None else checkpoint.sharded


def cast_dtype(precision: str) -> torch.dtype | None:
    """Give the type to which weights are cast for the compute, in a resolved precision; None where they are not."""
    return torch.bfloat16 if precision == "bf16-mixed" else None
