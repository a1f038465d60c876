"""Randomness that is a function of names, not of what ran before: equal on every rank, batch size and resumed run."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from its parts, the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def uniforms(seed: int, iteration: int, position: int, response: int, length: int) -> Tensor:
    """The uniform numbers in [0, 1) that one response is drawn with, [length] float32, on the CPU."""
    generator = torch.Generator().manual_seed(derive_seed(seed, iteration, position, response))
    return torch.rand(length, generator=generator)
