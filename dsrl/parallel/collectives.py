"""The few collectives of the loop. Without a process group each is the identity."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")


def world_size() -> int:
    """Ranks."""
    return dist.get_world_size() if _together() else 1


def gather(value: Value) -> list[Value]:
    """What each rank gives, in the order of the ranks."""
    gathered = [value]
    if _together():
        gathered = [value] * dist.get_world_size()
        dist.all_gather_object(gathered, value)
    return gathered


def all_sum(values: Sequence[float], device: torch.device) -> list[float]:
    """Elementwise sum over ranks, in float64 where the device has it."""
    total = torch.tensor(values, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
    if _together():
        dist.all_reduce(total)
    return [float(value) for value in total.tolist()]


def sum_by_key(values: Mapping[str, float]) -> dict[str, float]:
    """Sums over ranks of numbers under the same key; a rank that lacks a key counts as 0."""
    total: dict[str, float] = {}
    for share in gather(dict(values)):
        for key, value in share.items():
            total[key] = total.get(key, 0.0) + value
    return total


def all_max(value: float, device: torch.device) -> float:
    """The largest over ranks."""
    largest = torch.tensor(float(value), device=device)
    if _together():
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return float(largest)


def gather_rows(rows: Tensor, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Rows of all ranks in the order of their positions, and where this rank's own stand among them.

    rows [B, ...], one for each of this rank's `positions` in the batch of all ranks; returns ([B of all ranks, ...],
    [B] long). The order does not depend on the number of ranks.
    """
    shares = gather((positions, rows.cpu()))
    everywhere = torch.tensor([position for share, _ in shares for position in share], dtype=torch.long)
    ordered, order = everywhere.sort()
    return torch.cat([values for _, values in shares])[order], torch.searchsorted(ordered, torch.tensor(positions))


def ranks_by_host() -> list[list[int]]:
    """The ranks of each host, in order."""
    hosts: dict[str, list[int]] = {}
    for rank, host in enumerate(gather(socket.gethostname())):
        hosts.setdefault(host, []).append(rank)
    return list(hosts.values())


def ranks_of_this_host() -> tuple[int, int]:
    """This rank's number among those of its host, and how many these are."""
    rank = dist.get_rank() if _together() else 0
    mine = next(ranks for ranks in ranks_by_host() if rank in ranks)
    return mine.index(rank), len(mine)


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
