"""Thoughts that a regular expression finds: one for each class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.thoughts.thoughts import Thought, Thoughts


def matches_of(patterns: Mapping[str, re.Pattern[str]], text: str) -> list[Thought]:
    """Find what the patterns of the classes match, in the order of the text.

    Matches of a class do not overlap those of a class before it. An empty match is none.
    """
    found: list[Thought] = []
    for class_name, pattern in patterns.items():
        own = [Thought(*match.span(), class_name) for match in pattern.finditer(text) if match.end() > match.start()]
        found = sorted(found + _apart(own, found))
    return found


def _apart(own: list[Thought], others: list[Thought]) -> list[Thought]:
    """Leave out thoughts that overlap one of the others; both are in order."""
    apart, place = [], 0
    for thought in own:
        while place < len(others) and others[place].end <= thought.start:
            place += 1
        if place == len(others) or others[place].start >= thought.end:
            apart.append(thought)
    return apart


@register("thoughts", "pattern")
@dataclass(kw_only=True)
class Pattern(Thoughts):
    """Count the matches of a regular expression (Python's) for each class."""

    classes: dict[str, str]
    """The regular expression of each class, in order: what one has matched, a later one cannot match again."""

    def __post_init__(self) -> None:
        if not self.classes:
            raise ConfigError("classes={}: give a regular expression for each class, {reflection: PATTERN}")
        _ = self._patterns

    @property
    def class_names(self) -> tuple[str, ...]:
        """See the base class."""
        return tuple(self.classes)

    def split(self, text: str) -> list[Thought]:
        """See the base class."""
        return matches_of(self._patterns, text)

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        compiled = {}
        for class_name, pattern in self.classes.items():
            try:
                compiled[class_name] = re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"classes.{class_name}={pattern}: not a regular expression, {error}") from error
        return compiled


@register("thoughts", "arithmetic")
@dataclass(kw_only=True)
class Arithmetic(Pattern):
    """Count the marks that open a reconsideration in the traces of the embedded world: `?`, before a step that is done
    again.
    """

    classes: dict[str, str] = field(default_factory=lambda: {"reflection": r"\?"})
    """The regular expression of each class."""
