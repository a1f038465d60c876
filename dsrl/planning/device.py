"""The device of a rank, and how much memory it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dsrl.config.run_config import RunConfig
from dsrl.devices import precision_of

GIB = 2**30

HALVED = {"bf16-true": "bfloat16", "16-true": "float16"}
"""Precisions in which the trainer converts the weights, and to which dtype."""

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files in which the system says how much memory a container may take."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where a rank computes.

    Args:
        kind: `cpu` or `gpu`.
        gib: its memory; of a CPU, the rank's share of the machine's. None: there is no such device here.
    """

    kind: str
    gib: float | None

    @classmethod
    def of(cls, config: RunConfig) -> Device:
        """Find the device on which the run would compute here; plan.device_gib goes before what is found."""
        trainer, given = config.trainer, config.plan.device_gib
        found = trainer.accelerator != "cpu" and torch.accelerator.is_available()
        on_cpu = trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not found and given is None)
        if given is not None:
            return cls(kind="cpu" if on_cpu else "gpu", gib=given)
        if on_cpu:
            return cls(kind="cpu", gib=machine_bytes() / GIB / trainer.devices)
        return cls(kind="gpu", gib=_accelerator_bytes() / GIB if found and torch.cuda.is_available() else None)


def with_precision(config: RunConfig, device: Device) -> RunConfig:
    """Resolve what `trainer.precision` means on a device that need not be here: a GPU is taken to have bfloat16."""
    trainer = config.trainer
    if trainer.precision == "auto":
        elsewhere = device.kind == "gpu" and not torch.cuda.is_available()
        precision = "bf16-mixed" if elsewhere else precision_of(replace(trainer, accelerator=device.kind))
        return replace(config, trainer=replace(trainer, precision=precision))
    if trainer.precision in HALVED:
        return replace(config, model=replace(config.model, dtype=HALVED[trainer.precision]))
    return config


def machine_bytes() -> int:
    """Say how much memory this machine has for this process: what is built in, or what its container may take."""
    return min(_limits())


def _limits() -> Iterator[int]:
    yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in CGROUP_LIMITS:
        path = Path(name)
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            yield int(text)


def _accelerator_bytes() -> int:
    return int(torch.cuda.get_device_properties(0).total_memory)
