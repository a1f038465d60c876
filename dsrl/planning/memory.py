"""The peak of each stage of a run on the rank that needs most, part by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedConfig

from dsrl.config.run_config import RunConfig
from dsrl.devices import SHARDED, shards_checkpoints
from dsrl.parallel.fsdp import copies_of
from dsrl.planning.architecture import Shapes
from dsrl.planning.device import GIB, Device
from dsrl.planning.dtypes import bytes_of, compute_dtype_of, gathered_bytes_of
from dsrl.planning.fake_iteration import fake_iteration
from dsrl.planning.work import checkpoint_bytes
from dsrl.planning.workload import Workload
from dsrl.samplers.hf import HFSampler
from dsrl.samplers.vllm.sampler import VLLMSampler
from dsrl.samplers.vllm.weights import CHUNK_BYTES

PARTS = (
    "weights",
    "gradients",
    "moments",
    "reference",
    "activations",
    "head",
    "optimizer_step",
    "sampler",
    "keys_and_values",
    "engine",
    "communication",
    "checkpoint",
    "process",
)
"""What memory is held for. `optimizer_step` is what AdamW takes while it works, `sampler` the full copy of sampler hf
under FSDP, `communication` what is gathered and buffers of collectives, `checkpoint` what is being written, `process`
what is there without any model."""

OFFLOADED = ("weights", "gradients", "moments", "reference")
"""Parts that trainer.cpu_offload keeps in the CPU's memory."""

PROCESS_BYTES = {"cpu": int(0.5 * GIB), "gpu": int(1.0 * GIB)}
"""What a process takes by itself. On a CPU: Python, torch, transformers, Lightning, as
`benchmarks/plan_memory.py` bears out. On a GPU, assumed, not measured: CUDA's context, cuBLAS's
workspaces, NCCL's buffers."""

ENGINE_BYTES = int(0.6 * GIB)
"""What an engine's process takes on a CPU beside weights, keys and values."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peaks in bytes.

    Attributes:
        stages: parts at the peak of each stage.
    """

    stages: Mapping[str, Counter[str]]

    @property
    def peak_at(self) -> str:
        """The stage with the highest peak."""
        return max(self.stages, key=lambda stage: self.stages[stage].total())

    @property
    def parts(self) -> Counter[str]:
        """What is held at the highest peak."""
        return self.stages[self.peak_at]

    @property
    def peak(self) -> int:
        """The highest peak, in bytes."""
        return self.parts.total()

    def without(self, part: str) -> Memory:
        """Return the same peaks without what a part holds."""
        return Memory(stages={name: Counter({**parts, part: 0}) for name, parts in self.stages.items()})


def memory_of(
    config: RunConfig, architecture: PreTrainedConfig, shapes: Shapes, workload: Workload, device: Device
) -> Memory:
    """Compute the memory of a run's rank 0, on which most is held. Raises NotPlannable."""
    offloads = config.model.activation_offloading and device.kind == "gpu"
    peaks = fake_iteration(config, architecture, workload, offloads=offloads)
    return _Model(config, shapes, workload, device).memory(peaks)


@dataclass(frozen=True)
class _Model:
    config: RunConfig
    shapes: Shapes
    workload: Workload
    device: Device

    def memory(self, peaks: Mapping[str, Counter[str]]) -> Memory:
        """Add to what tensors took in a fake iteration what no tensor of the trainer shows."""
        resident = self._resident(peaks["optimizer_step"])
        stages = {
            "sampling": Counter(peaks.get("sampling", resident)),
            "scoring": Counter(peaks["scoring"]),
            "update": Counter(peaks["update"]),
            "optimizer_step": Counter(peaks["optimizer_step"]),
            "sync": resident + Counter(communication=self._sync_buffers()),
            "checkpoint": resident + Counter(checkpoint=self._checkpoint_buffers()),
        }
        stages["sampling"]["keys_and_values"] += self._keys_and_values()
        for name, parts in stages.items():
            parts["engine"] += self._engine(asleep=name not in ("sampling", "sync"))
            parts["process"] += PROCESS_BYTES[self.device.kind]
            parts["checkpoint"] += self._staged_checkpoint()
            if self.config.trainer.cpu_offload:
                for part in OFFLOADED:
                    del parts[part]
        return Memory(stages={name: Counter({part: stages[name][part] for part in PARTS}) for name in stages})

    def _resident(self, parts: Counter[str]) -> Counter[str]:
        """What stays between the stages: DDP's buckets, too."""
        kept = Counter({part: parts[part] for part in ("weights", "moments", "reference", "sampler")})
        if self._sharded:
            return kept
        return kept + Counter(communication=parts["communication"])

    @property
    def _sharded(self) -> bool:
        return self.config.trainer.strategy in SHARDED

    @property
    def _weight_bytes(self) -> int:
        return bytes_of(self.config.model.dtype)

    def _keys_and_values(self) -> int:
        """Bytes of the caches in which sampler hf decodes, at their largest."""
        sampler = self.config.sampler
        if not isinstance(sampler, HFSampler):
            return 0
        tokens = self.workload.longest_row
        rows = sampler.rows_at_once(tokens, self.workload.prompts, self.workload.responses)
        size = bytes_of(compute_dtype_of(self.config))
        layer = 2 * rows * self.shapes.key_heads * self.shapes.head_size * size
        growing = layer // 2 * tokens  # while a buffer moves to a larger one, both are there
        return layer * self.shapes.layers * tokens + growing

    def _engine(self, *, asleep: bool) -> int:
        """Bytes that the engine of sampler vllm holds in this rank's device."""
        sampler = self.config.sampler
        if not isinstance(sampler, VLLMSampler):
            return 0
        sleeps = sampler.sleep_level is None or sampler.sleep_level > 0
        if self.device.kind == "gpu":
            share = sampler.gpu_memory_utilization * (self.device.gib or 0.0)
            return 0 if asleep and sleeps else int(share * GIB)
        room = 2.0 if sampler.kv_cache_gib is None else sampler.kv_cache_gib
        weights = self.shapes.parameters * bytes_of(sampler.dtype)
        return int((weights + room * GIB) / sampler.tensor_parallel_size) + ENGINE_BYTES

    def _sync_buffers(self) -> int:
        """Bytes of the tensor under way, and of the two buffers through which it reaches an engine."""
        sampler, largest = self.config.sampler, self.shapes.largest
        gathered = largest * gathered_bytes_of(self.config) if self._sharded else 0
        if isinstance(sampler, VLLMSampler):
            return gathered + 2 * max(CHUNK_BYTES, largest * bytes_of(sampler.dtype))
        return gathered

    def _checkpoint_buffers(self) -> int:
        """Bytes that rank 0 needs to put a checkpoint in one file together: on a CPU all of it, on a GPU a tensor."""
        if not self._sharded or self._in_parts:
            return 0
        if self.device.kind == "cpu":
            return checkpoint_bytes(self.config, self.shapes)
        return self.shapes.largest * self._weight_bytes

    def _staged_checkpoint(self) -> int:
        """Bytes of a rank's copy of its part of a checkpoint, on a CPU: it is there until a thread has written it."""
        if not self._in_parts or self.device.kind != "cpu":
            return 0
        share = self.workload.ranks // copies_of(self.config.trainer) if self._sharded else 1
        return checkpoint_bytes(self.config, self.shapes) // share

    @property
    def _in_parts(self) -> bool:
        return shards_checkpoints(self.config.trainer, self.config.checkpoint)
