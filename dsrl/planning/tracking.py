"""Count the memory that code holds while it runs on fake tensors, of which nothing is computed.

Tensors of numbers are fake: they have shapes and no memory. Tensors of integers and truth values, which are small and
decide how the code goes on (lengths, masks, positions), are real.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten

LARGEST_REAL = 2**28
"""Elements; a larger tensor is fake whatever it holds."""

COLLECTIVES = ("c10d", "_c10d_functional", "fsdp")
"""Namespaces of operators whose tensors are buffers of a collective."""


HOST = "host"
"""The part of what lies in the CPU's memory, and takes none of the device's."""


class MemoryTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Attribute the storage of every tensor that lives to a part, and remember the peak.

    To be entered inside `fake`, the mode of its tensors.

    Args:
        fake: the mode of the tensors.
        vocabulary: V; tensors whose last dimension is V are those of the head.

    Attributes:
        live: bytes by part, now.
        peaks: for each stage, bytes by part when its total was largest.
    """

    def __init__(self, fake: FakeTensorMode, vocabulary: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fake, self.vocabulary = fake, vocabulary
        self.live: Counter[str] = Counter()
        self.peaks: dict[str, Counter[str]] = {}
        self._stage, self._part = "", "activations"
        self._known: dict[int, tuple[int, str]] = {}  # of each storage: bytes and part
        self._buffers: dict[int, weakref.ref[torch.UntypedStorage]] = {}  # which are emptied and filled in place

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Account for what runs inside as a stage."""
        before, self._stage = self._stage, name
        self._note_peak()
        try:
            yield
        finally:
            self._stage = before

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Attribute what is allocated inside to a part."""
        before, self._part = self._part, name
        try:
            yield
        finally:
            self._part = before

    def assign(self, tensors: Sequence[Tensor], part: str) -> None:
        """Attribute tensors to a part, whatever they were attributed to before."""
        for tensor in tensors:
            self._count(tensor, part)
        self._note_peak()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it returns."""
        output = self._run(func, args, kwargs or {})
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if func.namespace in COLLECTIVES:
            inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            for number, tensor in enumerate((*inputs, *tensors)):
                if self._part_of(tensor) in (None, "activations", "communication"):
                    reduced = number == 0 and "reduce_scatter" in func.name()  # what it is written to
                    self._count(tensor, "gradients" if reduced else "communication")
        for tensor in tensors:
            if self._part_of(tensor) is None:
                scores = self._part == "activations" and tensor.ndim > 1 and tensor.shape[-1] == self.vocabulary
                self._count(tensor, "head" if scores else self._part)
        self._note_peak()
        return output

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if func is aten._local_scalar_dense.default and isinstance(tensors[0], FakeTensor):
            return 1.0 if tensors[0].is_floating_point() else 1
        if any(isinstance(tensor, FakeTensor | DTensor) for tensor in tensors):
            return func(*_without_masks(func, args), **kwargs)
        if tensors and _elements(tensors) <= LARGEST_REAL or not tensors and _makes_integers(func, args, kwargs):
            with unset_fake_temporarily():
                output = func(*args, **kwargs)
            return tree_map_only(Tensor, self._fake_if_number, output)
        return func(*args, **kwargs)

    def _fake_if_number(self, tensor: Tensor) -> Tensor:
        return self.fake.from_tensor(tensor) if tensor.is_floating_point() else tensor

    def _part_of(self, tensor: Tensor) -> str | None:
        found = self._known.get(_local(tensor).untyped_storage()._cdata)
        return found[1] if found else None

    def _count(self, tensor: Tensor, part: str) -> None:
        storage = _local(tensor).untyped_storage()
        key, size = storage._cdata, 0 if part == HOST else storage.nbytes()
        if key in self._known:
            self._forget(key)
        else:
            weakref.finalize(storage, self._forget, key)
        self._known[key] = size, part
        self.live[part] += size
        if part == "communication":
            self._buffers[key] = weakref.ref(storage)

    def _forget(self, key: int) -> None:
        self._buffers.pop(key, None)
        if found := self._known.pop(key, None):
            self.live[found[1]] -= found[0]

    def _note_peak(self) -> None:
        if self._stage and self._is_peak():
            self._measure_buffers()
            if self._is_peak():
                self.peaks[self._stage] = self.live.copy()

    def _is_peak(self) -> bool:
        return self.live.total() > self.peaks.get(self._stage, Counter()).total()

    def _measure_buffers(self) -> None:
        """Let go of what was gathered and has been given back, which no operator says."""
        for key, reference in self._buffers.items():
            storage, (size, part) = reference(), self._known[key]
            if storage is not None and storage.nbytes() != size:
                self.live[part] += storage.nbytes() - size
                self._known[key] = storage.nbytes(), part


def local_bytes(tensor: Tensor) -> int:
    """Count the bytes of a tensor on this rank."""
    return _local(tensor).untyped_storage().nbytes()


def _local(tensor: Tensor) -> Tensor:
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor


def _without_masks(func: Any, args: Any) -> Any:
    """Write real masks among indices as positions: how many those are is known."""
    if not func.name().startswith(("aten::index", "aten::_index_put", "aten::_unsafe_index")) or len(args) < 2:
        return args
    if not isinstance(args[1], list | tuple):
        return args
    indices: list[Any] = []
    for index in args[1]:
        if isinstance(index, Tensor) and index.dtype == torch.bool and not isinstance(index, FakeTensor):
            with unset_fake_temporarily():
                indices += index.nonzero().unbind(1)
        else:
            indices.append(index)
    return (args[0], indices, *args[2:])


def _elements(tensors: Sequence[Tensor]) -> int:
    """Count the elements of what the tensors give together, at most."""
    try:
        return torch.broadcast_shapes(*(tensor.shape for tensor in tensors)).numel()  # type: ignore[no-any-return,no-untyped-call]
    except RuntimeError:
        return max(tensor.numel() for tensor in tensors)


def _makes_integers(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operator without tensors makes a small one of integers or truth values."""
    numbers = [leaf for leaf in tree_leaves(args) if isinstance(leaf, int | float)]
    dtype = kwargs.get("dtype")
    if dtype is None:
        whole = func.overloadpacket in (aten.arange, aten.full) and all(isinstance(leaf, int) for leaf in numbers)
    else:
        whole = not (dtype.is_floating_point or dtype.is_complex)
    size = max([1, *numbers]) if func.overloadpacket is aten.arange else _product(args[0] if args else ())
    return bool(whole and size <= LARGEST_REAL)


def _product(size: Any) -> int:
    return torch.Size(size).numel() if isinstance(size, list | tuple) else 1
