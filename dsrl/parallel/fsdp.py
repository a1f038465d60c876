"""Train with FSDP2: every rank holds a part of each parameter, and gathers a block when it is needed."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import _set_pg_timeout
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from dsrl.config.schema import ModelConfig, TrainerConfig
from dsrl.models.sharded_loading import blocks, load_parts, model_without_weights
from dsrl.parallel.strategy import LoopStrategy


class FSDP2(LoopStrategy, ModelParallelStrategy):
    """Apply `fully_shard` to each transformer block and to the rest of the model.

    Gradients are reduced with every micro-batch, so that no rank holds full ones.
    """

    def __init__(self, *, compute: torch.dtype | None, cpu_offload: bool, copies: int = 1, **arguments: Any) -> None:
        """Set the precision and where the parts lie.

        Args:
            compute: the dtype of forward, backward and gathered weights; the parts keep the model's dtype, and
                gradients are summed in float32. None: everything is in the model's dtype.
            cpu_offload: keep the parts in the CPU's memory.
            copies: groups of as many neighbouring ranks that hold a copy of the model each, whose gradients are
                averaged (HSDP); 1: all ranks share one.
            arguments: those of Lightning's `ModelParallelStrategy`.
        """
        super().__init__(**arguments)
        self.mixed_precision, self.copies = mixed_precision(compute), copies
        self.offload = CPUOffloadPolicy() if cpu_offload else OffloadPolicy()

    def models(self, config: ModelConfig, copies: int) -> list[Any]:
        """Build and shard the models without weights; then each rank reads its parts."""
        models = [self.place(model_without_weights(config)) for _ in range(copies)]
        load_parts(config, models, self.device_of_parts)
        return models

    def place(self, model: nn.Module) -> nn.Module:
        """Shard the model in place."""
        return shard(model, self.mesh_of_parts, self.mixed_precision, self.offload)

    @cached_property
    def mesh_of_parts(self) -> DeviceMesh:
        """The ranks as they share the model. Groups of some of them get the time limit that the group of all has."""
        mesh = shard_mesh(self.root_device.type, self.world_size, self.copies)
        assert self._timeout is not None
        for group in mesh.get_all_groups():
            _set_pg_timeout(self._timeout, group)
        return mesh

    @property
    def device_of_parts(self) -> torch.device:
        """Where this rank's parts lie."""
        return torch.device("cpu") if isinstance(self.offload, CPUOffloadPolicy) else self.root_device

    def model_to_device(self) -> None:
        """Leave parts where they are: FSDP2 refuses offloaded ones that Lightning has moved to the device."""
        if self.device_of_parts == self.root_device:
            super().model_to_device()
            return
        assert self.model is not None
        for module in self.model.modules():
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(self.root_device)


def copies_of(trainer: TrainerConfig) -> int:
    """Count the copies of the model that all ranks together hold: `trainer.shard_within=node` has one on each node."""
    return trainer.num_nodes if trainer.shard_within == "node" else 1


def shard_mesh(device: str, ranks: int, copies: int) -> DeviceMesh:
    """Arrange ranks: [ranks], or [copies, ranks / copies], in which neighbouring ranks share a copy of the model."""
    if copies == 1:
        return init_device_mesh(device, (ranks,))
    return init_device_mesh(device, (copies, ranks // copies), mesh_dim_names=("replicate", "shard"))


def shard(model: nn.Module, mesh: DeviceMesh, precision: MixedPrecisionPolicy, offload: OffloadPolicy) -> nn.Module:
    """Shard a model in place, in units: each transformer block, and the rest."""
    for module in (*blocks(model), model):
        fully_shard(module, mesh=mesh, mp_policy=precision, offload_policy=offload)
    return model


def mixed_precision(compute: torch.dtype | None) -> MixedPrecisionPolicy:
    """Say how numbers are held: parts in the model's dtype; what is gathered, and the compute, in `compute`, if any."""
    return MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32 if compute else None)
