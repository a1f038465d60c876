"""FSDP2: every rank holds a part of each parameter, and puts a block together when it is needed."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from dsrl.config.schema import ModelConfig
from dsrl.models.sharded_loading import blocks, load_parts, model_without_weights
from dsrl.parallel.strategy import LoopStrategy


class FSDP2(LoopStrategy, ModelParallelStrategy):
    """`fully_shard` on each transformer block and on the whole.

    Gradients are reduced with every micro-batch, so that no rank holds whole ones. `compute`: the type of forward,
    backward and gathered weights; the parts stay in the model's type, and gradients are summed in float32.
    """

    def __init__(self, *, compute: torch.dtype | None, cpu_offload: bool, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.mixed_precision = MixedPrecisionPolicy(
            param_dtype=compute, reduce_dtype=torch.float32 if compute else None
        )
        self.offload = CPUOffloadPolicy() if cpu_offload else OffloadPolicy()

    def models(self, config: ModelConfig, copies: int) -> list[Any]:
        """Built without weights and cut up; then each rank reads its parts."""
        models = [self.place(model_without_weights(config)) for _ in range(copies)]
        load_parts(
            config, models, torch.device("cpu") if isinstance(self.offload, CPUOffloadPolicy) else self.root_device
        )
        return models

    def place(self, model: nn.Module) -> nn.Module:
        """The model, cut up in place."""
        mesh = self.device_mesh["data_parallel"]
        for module in (*blocks(model), model):
            fully_shard(module, mesh=mesh, mp_policy=self.mixed_precision, offload_policy=self.offload)
        return model
