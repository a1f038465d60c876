"""Checks of what a part returned, told in its name: what was expected of it, and what came."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dsrl.registry.blame import PartError, label_of

FLAGS = ("kept", "scored", "clipped", "counts")
"""What is bool; everything else is a floating number."""


def expect_tensor(value: Any, shape: tuple[int, ...], *, owner: Any, kind: str, what: str, letters: str) -> Tensor:
    """Return what a part returned, if it is the tensor that it must be.

    Args:
        value: what it returned.
        shape: what it must be of.
        owner: the part.
        kind: its kind.
        what: what is meant, such as "advantages"; see FLAGS.
        letters: the shape in letters, such as "[B, G]".

    Raises:
        PartError: it is no tensor, or of another shape or type.
    """
    flags = what in FLAGS
    expected = f"{what}, a {'bool' if flags else 'float'} tensor {letters} = {list(shape)}"
    if not isinstance(value, Tensor):
        came = f"{type(value).__name__}" if value is not None else "None"
    elif value.shape != shape:
        came = f"one of shape {list(value.shape)}"
    elif (value.dtype != torch.bool) if flags else not value.is_floating_point():
        came = f"one of {value.dtype}".replace("torch.", "")
    else:
        return value
    raise PartError(f"{label_of(owner, kind)} must return {expected}, not {came}")


def expect(value: Any, kind_of_value: type | tuple[type, ...], *, owner: Any, kind: str, what: str) -> Any:
    """Return what a part returned, if it is of the type that it must be. Raises PartError."""
    if isinstance(value, kind_of_value):
        return value
    came = "None" if value is None else type(value).__name__
    raise PartError(f"{label_of(owner, kind)} must return {what}, not {came}")
