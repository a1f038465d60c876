"""Choose the strategy that `trainer.strategy` names."""

from __future__ import annotations

from datetime import timedelta

import torch
from lightning.pytorch.strategies import Strategy

from dsrl.config.schema import CheckpointConfig, TrainerConfig
from dsrl.devices import SHARDED, cast_dtype, device_type, precision_of
from dsrl.parallel.data_parallel import DDP, SingleDevice
from dsrl.parallel.fsdp import FSDP2
from dsrl.parallel.fsdp1 import FSDP1


def strategy_for(trainer: TrainerConfig, checkpoint: CheckpointConfig) -> Strategy:
    """Build the strategy of a run. `auto` is one process, or DDP if there are several."""
    timeout = timedelta(seconds=trainer.timeout)
    ranks = trainer.devices * trainer.num_nodes
    compute = cast_dtype(precision_of(trainer))
    strategy: DDP | SingleDevice | FSDP2 | FSDP1
    if trainer.strategy == "fsdp":
        strategy = FSDP2(
            compute=compute,
            cpu_offload=trainer.cpu_offload,
            data_parallel_size=ranks,
            tensor_parallel_size=1,
            timeout=timeout,
        )
    elif trainer.strategy == "fsdp1":
        strategy = FSDP1(compute=compute, cpu_offload=trainer.cpu_offload, timeout=timeout)
    elif trainer.strategy == "ddp" or ranks > 1:
        strategy = DDP(timeout=timeout, forward_sync_buffers=False, gradient_as_bucket_view=True)
    else:
        strategy = SingleDevice(device=_single_device(trainer.accelerator))
    strategy.save_parts = checkpoint.sharded
    return strategy


def lightning_precision(trainer: TrainerConfig) -> str:
    """Give Lightning's name of the precision; under FSDP, which casts by itself, that is never a mixed one."""
    precision = precision_of(trainer)
    return "32-true" if cast_dtype(precision) and trainer.strategy in SHARDED else precision


def _single_device(accelerator: str) -> torch.device:
    """Choose the device of a run in one process."""
    kind = device_type(accelerator)
    return torch.device(kind) if kind == "cpu" else torch.device(kind, 0)
