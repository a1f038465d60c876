"""The collectives of the loop: exchange values between ranks. Without a process group each is the identity."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")


def world_size() -> int:
    """Count the ranks."""
    return dist.get_world_size() if _together() else 1


def own_rank() -> int:
    """Tell this rank's number, from 0."""
    return dist.get_rank() if _together() else 0


def gather(value: Value) -> list[Value]:
    """Collect the values of all ranks, in the order of the ranks."""
    gathered = [value]
    if _together():
        gathered = [value] * dist.get_world_size()
        dist.all_gather_object(gathered, value)
    return gathered


def exchange(values: Sequence[Value]) -> list[Value]:
    """Give `values[r]` to rank r. Returns what each rank gave to this one, in the order of the ranks."""
    if not _together():
        return list(values)
    own, device = own_rank(), _device()
    sent = [b"" if rank == own else pickle.dumps(value) for rank, value in enumerate(values)]
    sizes = torch.tensor([len(payload) for payload in sent], device=device)
    coming = torch.empty_like(sizes)
    dist.all_to_all_single(coming, sizes)
    payload = torch.frombuffer(bytearray(b"".join(sent) or b"\0"), dtype=torch.uint8)[: int(sizes.sum())].to(device)
    received = torch.empty(int(coming.sum()), dtype=torch.uint8, device=device)
    dist.all_to_all_single(received, payload, coming.tolist(), sizes.tolist())
    parts = torch.split(received.cpu(), coming.tolist())
    return [values[own] if rank == own else pickle.loads(bytes(part.numpy())) for rank, part in enumerate(parts)]  # noqa: S301


def all_sum(values: Sequence[float]) -> list[float]:
    """Sum each of the values over ranks, in float64."""
    total = torch.tensor(values, dtype=torch.float64, device=_device())
    if _together():
        dist.all_reduce(total)
    return [float(value) for value in total.tolist()]


def all_max(value: float) -> float:
    """Take the largest value of all ranks, in float64."""
    largest = torch.tensor(float(value), dtype=torch.float64, device=_device())
    if _together():
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return float(largest)


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """Average a tensor over ranks, where it lies; what was given is left as it is."""
    if not _together():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def gather_rows(rows: Tensor, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Collect the rows of all ranks in the order of their positions.

    The order does not depend on the number of ranks.

    Args:
        rows: [B, ...], one for each of this rank's positions.
        positions: B places in the batch of all ranks.

    Returns:
        The rows [B of all ranks, ...], and the places [B] long of this rank's own rows among them.
    """
    shares = gather((positions, rows.cpu()))
    everywhere = torch.tensor([position for share, _ in shares for position in share], dtype=torch.long)
    ordered, order = everywhere.sort()
    return torch.cat([values for _, values in shares])[order], torch.searchsorted(ordered, torch.tensor(positions))


def ranks_by_host() -> list[list[int]]:
    """List the ranks of each host, in order."""
    hosts: dict[str, list[int]] = {}
    for rank, host in enumerate(gather(socket.gethostname())):
        hosts.setdefault(host, []).append(rank)
    return list(hosts.values())


def ranks_of_this_host() -> tuple[int, int]:
    """Give this rank's number among the ranks of its host, and how many these are."""
    rank = own_rank()
    mine = next(ranks for ranks in ranks_by_host() if rank in ranks)
    return mine.index(rank), len(mine)


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def _device() -> torch.device:
    """Where a collective's tensors must be: on the CPU if the process group takes them there (gloo), else on this
    rank's accelerator (NCCL alone)."""
    if not _together() or "cpu:" in dist.get_backend_config():
        return torch.device("cpu")
    device = torch.accelerator.current_accelerator()
    assert device is not None
    return torch.device(device.type, torch.accelerator.current_device_index())
