"""Train with FSDP1, Lightning's FSDPStrategy: every rank holds a part of each block's flattened parameters."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffload, FullyShardedDataParallel, MixedPrecision
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from dsrl.models.lora_targets import check_fsdp1
from dsrl.models.sharded_loading import blocks
from dsrl.parallel.strategy import LoopStrategy


class FSDP1(LoopStrategy, FSDPStrategy):
    """Read the full model on each rank once, then keep a part of it. Arguments are those of `FSDP2`."""

    def __init__(self, *, compute: torch.dtype | None, cpu_offload: bool, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.compute, self.cpu_offload_parts = compute, cpu_offload

    def place(self, model: nn.Module) -> nn.Module:
        """Shard the model in units: each block, and the rest. Raises ConfigError for adapters that it cannot train."""
        check_fsdp1(model)
        device = self.root_device
        precision = None
        if self.compute is not None:
            precision = MixedPrecision(
                param_dtype=self.compute,
                reduce_dtype=torch.float32,
                buffer_dtype=torch.float32,
                cast_forward_inputs=False,
            )
        return FullyShardedDataParallel(
            model,
            device_id=device,
            device_mesh=init_device_mesh(device.type, (self.world_size,)),
            auto_wrap_policy=ModuleWrapPolicy({type(block) for block in blocks(model)}),
            mixed_precision=precision,
            cpu_offload=CPUOffload(offload_params=True) if self.cpu_offload_parts else None,
            use_orig_params=True,
        )

    @property
    def saved_form(self) -> StateDictOptions:
        """The options of every strategy, but without offloading on a CPU, which torch would refuse."""
        options = super().saved_form
        options.cpu_offload = options.cpu_offload and self.root_device.type != "cpu"
        return options
