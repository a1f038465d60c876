"""The base class of ways to find thoughts in a response, and what they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Thought(NamedTuple):
    """A stretch of a response, `text[start:end]` in characters, and the class that it is of."""

    start: int
    end: int
    class_name: str


@dataclass(kw_only=True)
class Thoughts:
    """Find the thoughts of a response. This is the base class; a subclass has `class_names` and implements `split`.

    What is found is counted and shown, and changes nothing of a run.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in order: where a stretch could be of several, the first of them counts."""
        raise NotImplementedError

    def split(self, text: str) -> list[Thought]:
        """Find the thoughts of one response, in order and without overlap. A response is untrusted text: one in which
        nothing is found has none.
        """
        raise NotImplementedError

    def split_all(self, texts: Sequence[str]) -> list[list[Thought]]:
        """Find the thoughts of many responses. A subclass that prefers many at once, such as a judge, overrides it."""
        return [self.split(text) for text in texts]
