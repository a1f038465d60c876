"""What must hold of ranks and devices."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from dsrl.config.schema import TrainerConfig
from dsrl.devices import SHARDED, device_type

if TYPE_CHECKING:
    from dsrl.config.run_config import RunConfig


def trainer_problems(config: RunConfig) -> Iterator[str]:
    """Find what is wrong with ranks and devices, one message each."""
    trainer = config.trainer
    ranks = trainer.devices * trainer.num_nodes
    given = f"trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes}"
    if config.prompts_per_iteration < ranks:
        yield (
            f"prompts_per_iteration={config.prompts_per_iteration}: at least one for each of the {ranks} ranks "
            f"({given}), since the responses of a prompt stay on one rank"
        )
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) != ranks:
        yield f"{given}: torchrun started {os.environ['WORLD_SIZE']} processes"
    if trainer.timeout <= 0:
        yield f"trainer.timeout={trainer.timeout:g}: must be above 0 (seconds)"
    if trainer.max_time is not None and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", trainer.max_time):
        yield f"trainer.max_time={trainer.max_time}: must be days:hours:minutes:seconds, such as '00:03:30:00'"
    if trainer.cpu_offload and trainer.strategy not in SHARDED:
        yield f"trainer.cpu_offload=true: only with trainer=fsdp or fsdp1, not {trainer.strategy}"
    if trainer.shard_within not in (None, "node"):
        yield f"trainer.shard_within={trainer.shard_within}: allowed are null, node"
    elif trainer.shard_within and trainer.strategy != "fsdp":
        yield f"trainer.shard_within=node: only with trainer=fsdp, not {trainer.strategy}"
    elif trainer.shard_within and trainer.num_nodes == 1:
        yield "trainer.shard_within=node: there is one node, over which trainer=fsdp shards by itself; leave it null"
    if trainer.accelerator == "mps" and (ranks > 1 or trainer.strategy not in ("auto", "ddp")):
        yield f"trainer.accelerator=mps: one process with trainer=auto, not {trainer.strategy} with {given}"


def machine_problems(trainer: TrainerConfig) -> Iterator[str]:
    """Find what this machine lacks, one message each."""
    if trainer.cpu_offload and (trainer.accelerator == "cpu" or not torch.accelerator.is_available()):
        yield "trainer.cpu_offload=true: there is no accelerator whose memory it could spare"
    if trainer.compile:
        yield from _compiling(trainer)


def _compiling(trainer: TrainerConfig) -> Iterator[str]:
    device, compiler = device_type(trainer.accelerator), os.environ.get("CXX", "g++")
    if device not in ("cpu", "cuda"):
        yield f"trainer.compile=true: on a CPU or a CUDA GPU, not on {device}"
    if device == "cpu" and shutil.which(compiler) is None:
        yield f"trainer.compile=true: on a CPU it needs a C++ compiler, and there is no {compiler} (CXX names another)"
