"""The policy's weights on their way into a vLLM engine: one tensor at a time through memory that both processes map.

The memory has no name in any file system: nothing is left behind however the processes end, and the size of /dev/shm
does not matter. The engine's side is a mixin of vLLM's workers, which vLLM imports by name; vLLM itself is imported
only there.
"""

from __future__ import annotations

import mmap
import os
import zlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dsrl.errors import DSRLError

Sent = dict[str, Any]
"""A tensor in the shared memory: its `name`, `dtype` and `shape`, and the `capacity` of the memory in bytes."""


class SharedMemory:
    """Room for one tensor; `path` opens it from any process of the same user on this host."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("dsrl-weights")
        self.path = f"/proc/{os.getpid()}/fd/{self.descriptor}"
        self.map: mmap.mmap | None = None

    def put(self, name: str, tensor: Tensor, dtype: torch.dtype, checksum: int) -> tuple[Sent, int]:
        """Write a tensor as `dtype`; what the other side needs to read it, and the checksum that goes on.

        Raises DSRLError where the system has no memory left for the largest tensor.
        """
        size = tensor.numel() * dtype.itemsize
        if self.map is None or len(self.map) < size:
            self._reserve(size)
        assert self.map is not None
        written = torch.frombuffer(self.map, dtype=dtype, count=tensor.numel()).view(tensor.shape)
        written.copy_(tensor)
        sent = {"name": name, "dtype": str(dtype), "shape": tuple(tensor.shape), "capacity": len(self.map)}
        return sent, zlib.crc32(memoryview(self.map)[:size], checksum)

    def close(self) -> None:
        """Give the memory back. May be called twice."""
        self.map = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _reserve(self, size: int) -> None:
        self.map = None
        try:  # else a write to a page that the system cannot give ends the process without a word
            os.posix_fallocate(self.descriptor, 0, size)
        except OSError as error:
            raise DSRLError(
                f"sampler vllm: no shared memory of {size / 2**20:.0f} MiB for the largest of the policy's weights "
                f"({error.strerror}); free memory on this host"
            ) from error
        self.map = mmap.mmap(self.descriptor, size)


class WeightReceiver:
    """The engine's side, in every worker of the engine (`worker_extension_cls`)."""

    if TYPE_CHECKING:
        vllm_config: Any
        device: torch.device

        def get_model(self) -> Any: ...  # noqa: D102

    def begin_weights(self, path: str) -> None:
        """Get ready for all weights anew, from the shared memory at `path`."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

        model = self.get_model()
        self._path, self._checksum = path, 0
        self._map: mmap.mmap | None = None
        if getattr(self, "_receiving", False):  # the last time was broken off
            finalize_layerwise_reload(model, self.vllm_config.model_config)
        self._missing = {name for name, _ in model.named_parameters()}
        self._receiving = True
        initialize_layerwise_reload(model)

    def receive_weight(self, sent: Sent) -> None:
        """Load one tensor from the shared memory. On return it may be overwritten."""
        dtype = getattr(torch, sent["dtype"].removeprefix("torch."))
        if self._map is None or len(self._map) < sent["capacity"]:
            with open(self._path, "r+b") as file:
                self._map = mmap.mmap(file.fileno(), sent["capacity"])
        count = torch.Size(sent["shape"]).numel()
        self._checksum = zlib.crc32(memoryview(self._map)[: count * dtype.itemsize], self._checksum)
        received = torch.frombuffer(self._map, dtype=dtype, count=count).view(sent["shape"])
        # vLLM keeps what it is given until a layer is complete, so it gets a copy.
        loaded = self.get_model().load_weights([(sent["name"], received.to(self.device, copy=True))])
        self._missing -= loaded or set()

    def finish_weights(self) -> tuple[int, list[str]]:
        """The checksum over the bytes received, and the engine's parameters that were not among them."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.get_model(), self.vllm_config.model_config)
        self.repack_tied_heads()
        self._map, self._receiving = None, False
        return self._checksum, sorted(self._missing)

    def repack_tied_heads(self) -> None:
        """On a CPU, layers keep a packed copy of their weights; a head tied to the embedding is not loaded itself, and
        vLLM leaves the old copy in place.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
        from vllm.platforms import current_platform

        tied = getattr(self.vllm_config.model_config.hf_config, "tie_word_embeddings", False)
        for module in self.get_model().modules() if tied and current_platform.is_cpu() else ():
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)
