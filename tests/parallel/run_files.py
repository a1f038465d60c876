"""What a run left behind, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = ("time/", "throughput/", "sync/seconds")
    return [{key: value for key, value in line.items() if not key.startswith(times)} for line in lines]


def samples(run: Path) -> list[dict[str, Any]]:
    """The lines of samples.jsonl."""
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, Tensor]:
    """The final policy."""
    return load_file(run / "hf" / "model.safetensors")


def apart(one: Path, other: Path) -> float:
    """Largest relative difference of any number in metrics.jsonl, and of any parameter tensor (by norms)."""
    return max(lines_apart(metrics(one), metrics(other)), weights_apart(one, other))


def weights_apart(one: Path, other: Path) -> float:
    """Largest relative difference of any parameter tensor of the final policies, by norms."""
    others = weights(other)
    return max(
        float(torch.dist(tensor, others[name]) / tensor.norm().clamp(min=1e-6)) for name, tensor in weights(one).items()
    )


def lines_apart(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> float:
    """Largest relative difference of any number; what is no number must be equal."""
    found = [0.0]
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for key, value in left.items():
            if key in ("update/padding", "update/slowest"):  # of the ranks that there are
                continue
            if isinstance(value, float):
                found.append(abs(value - right[key]) / max(abs(value), abs(right[key]), 1e-3))
            else:
                assert value == right[key], key
    return max(found)
