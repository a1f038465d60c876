"""Data source `retry`: digits that are found by trial, for the second embedded model, without a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dsrl.data.world_source import WorldSource
from dsrl.registry import register
from dsrl.worlds import RetryWorld


@register("data", "retry")
@dataclass(kw_only=True)
class RetrySource(WorldSource):
    """Ask which digit, added to those of the question, gives a multiple of `guesses`.

    No question is both trained on and validated on (see `is_held_out`).
    """

    digits: int = RetryWorld.digits
    """Digits of a question; the embedded model knows 4."""
    guesses: int = RetryWorld.guesses
    """The answer is from 0 to this, exclusive; the embedded model knows 5."""

    name: ClassVar[str] = "retry"

    def world(self) -> RetryWorld:
        """Make the world of guesses. Raises ConfigError for values that make no sense."""
        return RetryWorld(digits=self.digits, guesses=self.guesses)
