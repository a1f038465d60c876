"""SEAL's thoughts (arXiv 2504.07986, section 2 and table 3)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dsrl.registry import register
from dsrl.thoughts.thoughts import Thought, Thoughts

REFLECTION = (
    ("wait",),
    ("verify", "make sure", "hold on", "think again", "'s correct", "'s incorrect", "let me check", "seems right"),
)
"""Words that a thought of the class opens with, and phrases that it holds anywhere."""
TRANSITION = (
    ("alternatively",),
    (
        "think differently",
        *(f"another {noun}" for noun in ("way", "approach", "method", "solution", "strategy", "technique")),
    ),
)
BETWEEN = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
"""One blank line or several; they may hold spaces."""


def _pattern(opening: tuple[str, ...], anywhere: tuple[str, ...]) -> re.Pattern[str]:
    """Match a thought without whitespace around it, whose apostrophes are straight."""
    return re.compile(rf"\A(?:{'|'.join(opening)})\b|{'|'.join(anywhere)}", re.IGNORECASE)


@register("thoughts", "seal")
@dataclass(kw_only=True)
class Seal(Thoughts):
    """Split a response at blank lines, and give each part the first class that fits: reflection where it opens with
    "Wait" or says "verify", "make sure", "hold on", "let me check" ...; transition where it opens with "Alternatively"
    or says "think differently", "another way", "another approach" ...; else execution (arXiv 2504.07986, table 3).

    Upper and lower case are the same. The words are English: `words` has Chinese ones, too.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """See the base class."""
        return (*_CLASSES, "execution")

    def split(self, text: str) -> list[Thought]:
        """See the base class."""
        edges = [0, *(edge for match in BETWEEN.finditer(text) for edge in match.span()), len(text)]
        parts = ((_trimmed(text, *pair)) for pair in zip(edges[::2], edges[1::2], strict=True))
        return [Thought(start, end, _class_of(text[start:end])) for start, end in parts if end > start]


_CLASSES = {"reflection": _pattern(*REFLECTION), "transition": _pattern(*TRANSITION)}


def _class_of(part: str) -> str:
    part = part.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return next((name for name, pattern in _CLASSES.items() if pattern.search(part)), "execution")


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out whitespace at both ends."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())
