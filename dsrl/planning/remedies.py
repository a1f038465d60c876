"""What would make a run need less memory, and how much it would need then, by arithmetic on its plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dsrl.config.run_config import RunConfig
from dsrl.devices import SHARDED, shards_checkpoints
from dsrl.planning.architecture import Shapes
from dsrl.planning.device import GIB
from dsrl.planning.dtypes import bytes_of, compute_dtype_of
from dsrl.planning.memory import Memory
from dsrl.planning.workload import Workload
from dsrl.samplers.hf import HFSampler

STATE = ("weights", "gradients", "moments", "reference", "optimizer_step")
"""Parts that FSDP divides among ranks."""


@dataclass(frozen=True)
class Remedy:
    """A change of the command line, and the peak of the rank with it, in GiB, about."""

    change: str
    gib: float


def remedies_of(config: RunConfig, shapes: Shapes, workload: Workload, memory: Memory) -> list[Remedy]:
    """List the changes that lower the peak by one part in fifty or more, the best first."""
    found = [
        Remedy(change, _peak(memory, factors, more) / GIB)
        for change, factors, more in _changes(config, shapes, workload, memory)
    ]
    worth = [remedy for remedy in found if remedy.gib < 0.98 * memory.peak / GIB]
    return sorted(worth, key=lambda remedy: remedy.gib)


def _peak(memory: Memory, factors: Mapping[str, float], more: int) -> float:
    """The highest peak when parts are multiplied by factors and `more` bytes are always held."""
    return more + max(
        sum(size * factors.get(part, 1.0) for part, size in parts.items()) for parts in memory.stages.values()
    )


def _changes(
    config: RunConfig, shapes: Shapes, workload: Workload, memory: Memory
) -> Iterator[tuple[str, Mapping[str, float], int]]:
    trainer, model = config.trainer, config.model
    copy = shapes.parameters * bytes_of(compute_dtype_of(config)) if isinstance(config.sampler, HFSampler) else 0
    if trainer.strategy in SHARDED:
        devices, nodes = trainer.devices, trainer.num_nodes
        ranks = f"trainer.devices={2 * devices}" if nodes == 1 and devices < 8 else f"trainer.num_nodes={2 * nodes}"
        if 2 * workload.ranks <= config.prompts_per_iteration and not trainer.shard_within:
            yield ranks, dict.fromkeys(STATE, 0.5), 0
        if copy:
            yield "sampler=vllm sampler.sleep_level=2, on a GPU", {"sampler": 0.0, "keys_and_values": 0.0}, 0
        if memory.peak_at == "checkpoint" and not shards_checkpoints(trainer, config.checkpoint):
            shorter = _without(memory, "checkpoint")
            yield "checkpoint.sharded=true", {}, round(shorter - memory.peak)
    elif config.prompts_per_iteration >= 8:
        ranks = "" if workload.ranks >= 8 else " trainer.devices=8"
        share = 1 / max(8, workload.ranks)
        yield f"trainer=fsdp{ranks}", {**dict.fromkeys(STATE, share), "communication": 0.0}, copy
    if not model.gradient_checkpointing:
        yield "model.gradient_checkpointing=true", {"activations": _kept_share(config, shapes, workload, memory)}, 0
    elif not model.activation_offloading:
        inputs = _block_inputs(config, shapes, workload) / max(1, memory.stages["update"]["activations"])
        yield "model.activation_offloading=true, on a GPU", {"activations": max(0.0, 1.0 - inputs)}, 0
    if workload.micro_batch_tokens >= 2 * workload.longest_row:
        half = workload.micro_batch_tokens // 2
        yield f"update.micro_batch_tokens={half}", {"activations": 0.5, "head": 0.75}, 0
    if memory.parts["keys_and_values"] and isinstance(config.sampler, HFSampler):
        longest, budget = workload.longest_row, config.sampler.max_batch_total_tokens
        rows = config.sampler.rows_at_once(longest, workload.prompts, workload.responses)
        halves = {"keys_and_values": 0.5, "activations": 0.5, "head": 0.5}
        if rows > 1 and memory.peak_at == "sampling":
            yield f"sampler.max_batch_total_tokens={min(budget, rows * longest) // 2}", _in_sampling(memory, halves), 0
    if not model.lora.rank:
        yield "model.lora.rank=16", {"gradients": 0.02, "moments": 0.02, "optimizer_step": 0.02}, 0


def _without(memory: Memory, stage: str) -> int:
    return max(parts.total() for name, parts in memory.stages.items() if name != stage)


def _in_sampling(memory: Memory, factors: Mapping[str, float]) -> Mapping[str, float]:
    """Factors that hold where sampling is the peak, and leave the other stages as they are."""
    others = Memory(stages={name: Counter(parts) for name, parts in memory.stages.items() if name != "sampling"})
    sampling = sum(size * factors.get(part, 1.0) for part, size in memory.parts.items())
    if sampling >= others.peak:
        return factors
    reduced = memory.peak - others.peak
    return {"keys_and_values": 1 - reduced / max(1, memory.parts["keys_and_values"])}


def _kept_share(config: RunConfig, shapes: Shapes, workload: Workload, memory: Memory) -> float:
    """The share of the activations that stays with gradient checkpointing: each block's input, and one block's all."""
    inputs = _block_inputs(config, shapes, workload)
    return min(1.0, 1 / shapes.layers + inputs / max(1, memory.stages["update"]["activations"]))


def _block_inputs(config: RunConfig, shapes: Shapes, workload: Workload) -> int:
    """The bytes of the inputs of all blocks in a micro-batch."""
    size = bytes_of(compute_dtype_of(config))
    return shapes.layers * max(workload.micro_batch_tokens, workload.longest_row) * shapes.hidden * size
