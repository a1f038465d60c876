"""Data source `arithmetic`: additions for the embedded model, without a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dsrl.data.world_source import WorldSource
from dsrl.registry import register
from dsrl.worlds import ArithmeticWorld


@register("data", "arithmetic")
@dataclass(kw_only=True)
class ArithmeticSource(WorldSource):
    """Ask for sums of two numbers. No question is both trained on and validated on (see `is_held_out`)."""

    digits: int = ArithmeticWorld.digits
    """Digits of both numbers; the embedded model knows 4."""

    name: ClassVar[str] = "arithmetic"

    def world(self) -> ArithmeticWorld:
        """Make the world of additions. Raises ConfigError for too few digits."""
        return ArithmeticWorld(digits=self.digits)
