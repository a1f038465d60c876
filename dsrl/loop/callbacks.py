"""The callbacks that a trainer has."""

from __future__ import annotations

from typing import TypeVar

import lightning as L

C = TypeVar("C", bound=L.Callback)


def callbacks_among(trainer: L.Trainer, kind: type[C]) -> list[C]:
    """List the callbacks of a kind, in the trainer's order."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, kind)]
