"""Choose the strategy that `trainer.strategy` names."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.strategies import Strategy

from dsrl.config.schema import CheckpointConfig, TrainerConfig
from dsrl.devices import SHARDED, cast_dtype, device_type, precision_of, process_groups, shards_checkpoints
from dsrl.parallel.data_parallel import DDP, SingleDevice
from dsrl.parallel.fsdp import FSDP2, copies_of
from dsrl.parallel.fsdp1 import FSDP1
from dsrl.parallel.watchdog import collective_timeout


def strategy_for(trainer: TrainerConfig, checkpoint: CheckpointConfig) -> Strategy:
    """Build the strategy of a run. `auto` is one process, or DDP if there are several."""
    ways: dict[str, Any] = {
        "timeout": collective_timeout(trainer.timeout),
        "process_group_backend": process_groups(trainer),
    }
    ranks = trainer.devices * trainer.num_nodes
    compute = cast_dtype(precision_of(trainer))
    strategy: DDP | SingleDevice | FSDP2 | FSDP1
    if trainer.strategy == "fsdp":
        strategy = FSDP2(
            compute=compute,
            cpu_offload=trainer.cpu_offload,
            copies=copies_of(trainer),
            data_parallel_size=ranks,
            tensor_parallel_size=1,
            **ways,
        )
    elif trainer.strategy == "fsdp1":
        strategy = FSDP1(compute=compute, cpu_offload=trainer.cpu_offload, **ways)
    elif trainer.strategy == "ddp" or ranks > 1:
        strategy = DDP(forward_sync_buffers=False, gradient_as_bucket_view=True, **ways)
    else:
        strategy = SingleDevice(device=_single_device(trainer.accelerator))
    strategy.save_parts = shards_checkpoints(trainer, checkpoint)
    return strategy


def lightning_precision(trainer: TrainerConfig) -> str:
    """Give Lightning's name of the precision; under FSDP, which casts by itself, that is never a mixed one."""
    precision = precision_of(trainer)
    return "32-true" if cast_dtype(precision) and trainer.strategy in SHARDED else precision


def _single_device(accelerator: str) -> torch.device:
    """Choose the device of a run in one process."""
    kind = device_type(accelerator)
    return torch.device(kind) if kind == "cpu" else torch.device(kind, 0)
