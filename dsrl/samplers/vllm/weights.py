"""Carry the policy's weights into a vLLM engine, chunk by chunk through memory that both processes map.

On a CPU that is host memory without a name in any file system: nothing is left behind however the processes end, and
the size of /dev/shm does not matter. On a GPU it is memory of the device, which CUDA IPC opens in the engine. Either
way the trainer fills one buffer while the engine loads from the other. The engine's side is a mixin of vLLM's workers,
which vLLM imports by name; vLLM itself is imported only there.
"""

from __future__ import annotations

import mmap
import os
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor

from dsrl.errors import DSRLError
from dsrl.samplers.vllm.memory import fixed_segments

CHUNK_BYTES = 32 * 2**20
"""Size of a chunk; a tensor that is larger travels alone."""

BLOCK_BYTES = 4096
"""Size of a block; a chunk is made of complete blocks."""

Chunk = dict[str, Any]
"""A message about a filled buffer: its `key` and `handle`, its `capacity` and the `bytes` in use, and `tensors`: the
name, dtype and shape of each, and the byte at which it starts."""


def checksum_of(used: Tensor, before: int) -> int:
    """Compute the checksum of a buffer's bytes, on their device, and of what came before.

    It adds words of 64 bits, weighted by the number of their block. So it notices bytes that are lost or changed, or
    that stand in another block or another chunk.

    Args:
        used: [bytes] uint8, complete blocks.
        before: the checksum of all chunks before; 0 for the first.
    """
    blocks = used.view(torch.int64).view(-1, BLOCK_BYTES // 8).sum(1)
    found = int((blocks * torch.arange(1, len(blocks) + 1, device=used.device)).sum())
    return (before * 1_000_003 + found) % 2**64


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """Say what was sent to an engine, and what each of its workers found.

    Args:
        checksum: of the bytes sent.
        size: how many bytes that were.
        workers: of each worker the checksum of the bytes it received, and those of its parameters that were not among
            them. Each holds parameters of its own, such as its share of the experts, so none answers for another.
    """

    checksum: int
    size: int
    workers: list[tuple[int, list[str]]]

    def problem(self) -> str | None:
        """Say what is wrong; None where every worker has all weights as they were sent."""
        for checksum, _ in self.workers:
            if checksum != self.checksum:
                return (
                    f"failed: checksum {checksum:016x} of the bytes that the engine received, {self.checksum:016x} of "
                    "those sent"
                )
        missing = {name for _, names in self.workers for name in names}
        return f"gave no weights for the engine's {', '.join(sorted(missing))}" if missing else None


class HostBuffer:
    """Hold a buffer in host memory that any process of the same user on this host can map."""

    def __init__(self, size: int) -> None:
        """Allocate `size` bytes. Raises DSRLError if the system has no memory left for them."""
        self.descriptor = os.memfd_create("dsrl-weights")
        try:  # else a write to a page that the system cannot give ends the process without a word
            os.posix_fallocate(self.descriptor, 0, size)
        except OSError as error:
            self.close()
            raise DSRLError(
                f"sampler vllm: no shared memory of {size / 2**20:.0f} MiB for the policy's weights "
                f"({error.strerror}); free memory on this host"
            ) from error
        self.bytes = torch.frombuffer(mmap.mmap(self.descriptor, size), dtype=torch.uint8)
        self.handle = f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def ready(self) -> None:
        """Do nothing: what was written to host memory is there at once."""

    def close(self) -> None:
        """Give the memory back. May be called twice."""
        self.bytes = torch.empty(0, dtype=torch.uint8)
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class DeviceBuffer:
    """Hold a buffer in the memory of this rank's GPU, which the engine opens by CUDA IPC."""

    def __init__(self, size: int, device: torch.device) -> None:
        """Allocate `size` bytes on the device."""
        with fixed_segments():
            self.bytes = torch.empty(size, dtype=torch.uint8, device=device)
        rebuild, arguments = reduce_tensor(self.bytes)  # type: ignore[no-untyped-call]
        # The 7th names the device, as this process counts; of those that the engine sees, this one is the first.
        self.handle = pickle.dumps((rebuild, (*arguments[:6], 0, *arguments[7:])))

    def ready(self) -> None:
        """Wait until the GPU has written the bytes."""
        torch.cuda.synchronize(self.bytes.device)

    def close(self) -> None:
        """Give the memory back. May be called twice."""
        self.bytes = torch.empty(0, dtype=torch.uint8)


class Outbox:
    """Send weights: the trainer's side, with two buffers that are filled in turn."""

    def __init__(self) -> None:
        self.buffers: list[HostBuffer | DeviceBuffer | None] = [None, None]
        self.checksum, self.size = 0, 0

    def chunks(self, named_tensors: Iterable[tuple[str, Tensor]]) -> Iterator[Chunk]:
        """Write all tensors into the buffers, in order, and yield a message for each filled one.

        A chunk's bytes stay until the chunk after the next is asked for. `checksum` and `size` are those of the bytes
        so far. Raises DSRLError if there is no memory for a buffer.
        """
        self.checksum, self.size, key = 0, 0, 0
        tensors: list[tuple[str, str, list[int], int]] = []
        buffer, end = None, 0
        for name, tensor in named_tensors:
            start, size = _rounded_up(end, 16), tensor.numel() * tensor.itemsize
            if buffer is not None and start + size > len(buffer.bytes):
                yield self._chunk(key, buffer, end, tensors)
                key, tensors, buffer, start = 1 - key, [], None, 0
            if buffer is None:
                buffer = self._buffer(key, size, tensor.device)
            end = start + size
            buffer.bytes[start:end].view(tensor.dtype).view(tensor.shape).copy_(tensor)
            tensors.append((name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), start))
        if buffer is not None:
            yield self._chunk(key, buffer, end, tensors)

    def close(self) -> None:
        """Give the memory back. May be called twice."""
        for buffer in self.buffers:
            if buffer is not None:
                buffer.close()

    def _chunk(self, key: int, buffer: HostBuffer | DeviceBuffer, end: int, tensors: list[Any]) -> Chunk:
        used = _rounded_up(end, BLOCK_BYTES)
        self.checksum, self.size = checksum_of(buffer.bytes[:used], self.checksum), self.size + used
        buffer.ready()
        return {
            "key": key,
            "handle": buffer.handle,
            "capacity": len(buffer.bytes),
            "bytes": used,
            "tensors": tensors,
        }

    def _buffer(self, key: int, size: int, device: torch.device) -> HostBuffer | DeviceBuffer:
        """Give the buffer of that number, another where it is too small, or where the policy has moved to a GPU."""
        buffer, on_gpu = self.buffers[key], device.type == "cuda"
        if buffer is None or len(buffer.bytes) < size or isinstance(buffer, DeviceBuffer) != on_gpu:
            if buffer is not None:
                buffer.close()
            size = _rounded_up(max(size, CHUNK_BYTES), BLOCK_BYTES)
            buffer = DeviceBuffer(size, device) if on_gpu else HostBuffer(size)
            self.buffers[key] = buffer
        return buffer


def _rounded_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


class WeightReceiver:
    """Receive weights: the engine's side, mixed into every worker of the engine (`worker_extension_cls`)."""

    if TYPE_CHECKING:
        vllm_config: Any
        device: torch.device

        def get_model(self) -> Any: ...  # noqa: D102

    def begin_weights(self) -> None:
        """Get ready to receive all weights anew."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

        self._unname_shared_memory()
        model = self.get_model()
        self._checksum = 0
        self._buffers: dict[int, tuple[str | bytes, Tensor]] = getattr(self, "_buffers", {})
        if getattr(self, "_receiving", False):  # the last time was broken off
            finalize_layerwise_reload(model, self.vllm_config.model_config)
        self._missing = {name for name, _ in model.named_parameters()}
        self._receiving = True
        initialize_layerwise_reload(model)

    def receive_weights(self, chunk: Chunk) -> None:
        """Load the tensors of a chunk. Once this returns, its bytes may be overwritten."""
        used = self._opened(chunk)[: chunk["bytes"]]
        self._checksum = checksum_of(used, self._checksum)
        self._missing -= self.get_model().load_weights(self._copies(used, chunk["tensors"])) or set()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def finish_weights(self) -> tuple[int, list[str]]:
        """Put the loaded layers into use.

        Returns the checksum over the bytes received, and the names of the engine's parameters that were not among them.
        """
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.get_model(), self.vllm_config.model_config)
        self.repack_tied_heads()
        self.repack_experts()
        self._receiving = False
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # of the copies, before keys and values take their room
        return self._checksum, sorted(self._missing)

    def repack_tied_heads(self) -> None:
        """Renew the packed weights of a head that is tied to the embedding, on a CPU.

        There, layers keep a packed copy of their weights. A tied head is not loaded itself, so vLLM would keep using
        the old copy.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
        from vllm.platforms import current_platform

        tied = getattr(self.vllm_config.model_config.hf_config, "tie_word_embeddings", False)
        for module in self.get_model().modules() if tied and current_platform.is_cpu() else ():
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)

    def repack_experts(self) -> None:
        """Renew the packed weights of experts, on a CPU: vLLM packs those of its start, and later ones are not packed.

        Without this a model with experts computes nonsense after its first weights, which the probe notices.
        """
        from vllm.model_executor.layers.fused_moe.routed_experts import RoutedExperts
        from vllm.platforms import current_platform

        for module in self.get_model().modules() if current_platform.is_cpu() else ():
            if isinstance(module, RoutedExperts):
                module.quant_method.moe_kernel.fused_experts.process_weights_after_loading(module)

    def _unname_shared_memory(self) -> None:
        """Take away the names of the memory that tensor-parallel workers on a CPU share.

        All of them have opened it by now; with a name it would stay behind if they were killed.
        """
        if identity := os.environ.get("VLLM_DIST_IDENT"):
            for path in Path("/dev/shm").glob(f"{identity}-*-cpushm_*"):
                path.unlink(missing_ok=True)

    def _opened(self, chunk: Chunk) -> Tensor:
        """Map the trainer's buffer, once; again where a larger one has taken its place."""
        key, handle = chunk["key"], chunk["handle"]
        opened = self._buffers.get(key)
        if opened is None or opened[0] != handle or len(opened[1]) != chunk["capacity"]:
            if isinstance(handle, bytes):
                rebuild, arguments = pickle.loads(handle)
                found: Tensor = rebuild(*arguments)
            else:
                with open(handle, "r+b") as file:
                    found = torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.uint8)
            opened = self._buffers[key] = handle, found
        return opened[1]

    def _copies(self, used: Tensor, tensors: list[Any]) -> Iterator[tuple[str, Tensor]]:
        """Copy each tensor: vLLM keeps what it is given until a layer is complete."""
        for name, type_name, shape, start in tensors:
            dtype = getattr(torch, type_name)
            size = torch.Size(shape).numel() * dtype.itemsize
            yield name, used[start : start + size].view(dtype).view(shape).to(self.device, copy=True)
