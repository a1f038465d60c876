"""Derive random numbers from names and numbers alone, so that they do not depend on what was drawn before.

They are the same on any number of ranks, for any batch size, and in a resumed run.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """Derive a seed of 63 bits from its parts, the same on every machine: `derive_seed("lora", name)`."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def uniforms(seed: int, iteration: int, position: int, response: int, length: int) -> Tensor:
    """Draw the random numbers of one response: uniform in [0, 1), [length] float32, on the CPU.

    Args:
        seed: that of the run, or one derived from it.
        iteration: from 0.
        position: the prompt's place in the batch of all ranks.
        response: the response's number among the G of its prompt.
        length: how many numbers; fewer are the beginning of more.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, iteration, position, response))
    return torch.rand(length, generator=generator)
