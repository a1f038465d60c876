"""Train with FSDP2: every rank holds a part of each parameter, and gathers a block when it is needed."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from dsrl.config.schema import ModelConfig
from dsrl.models.sharded_loading import blocks, load_parts, model_without_weights
from dsrl.parallel.strategy import LoopStrategy


class FSDP2(LoopStrategy, ModelParallelStrategy):
    """Apply `fully_shard` to each transformer block and to the rest of the model.

    Gradients are reduced with every micro-batch, so that no rank holds full ones.
    """

    def __init__(self, *, compute: torch.dtype | None, cpu_offload: bool, **arguments: Any) -> None:
        """Set the precision and where the parts lie.

        Args:
            compute: the dtype of forward, backward and gathered weights; the parts keep the model's dtype, and
                gradients are summed in float32. None: everything is in the model's dtype.
            cpu_offload: keep the parts in the CPU's memory.
            arguments: those of Lightning's `ModelParallelStrategy`.
        """
        super().__init__(**arguments)
        self.mixed_precision = mixed_precision(compute)
        self.offload = CPUOffloadPolicy() if cpu_offload else OffloadPolicy()

    def models(self, config: ModelConfig, copies: int) -> list[Any]:
        """Build and shard the models without weights; then each rank reads its parts."""
        models = [self.place(model_without_weights(config)) for _ in range(copies)]
        load_parts(
            config, models, torch.device("cpu") if isinstance(self.offload, CPUOffloadPolicy) else self.root_device
        )
        return models

    def place(self, model: nn.Module) -> nn.Module:
        """Shard the model in place."""
        return shard(model, self.device_mesh["data_parallel"], self.mixed_precision, self.offload)


def shard(model: nn.Module, mesh: DeviceMesh, precision: MixedPrecisionPolicy, offload: OffloadPolicy) -> nn.Module:
    """Shard a model in place, in units: each transformer block, and the rest."""
    for module in (*blocks(model), model):
        fully_shard(module, mesh=mesh, mp_policy=precision, offload_policy=offload)
    return model


def mixed_precision(compute: torch.dtype | None) -> MixedPrecisionPolicy:
    """Say how numbers are held: parts in the model's dtype; what is gathered, and the compute, in `compute`, if any."""
    return MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32 if compute else None)
