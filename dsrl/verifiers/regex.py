"""A regular expression."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import regex

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.verifier import Verifier, ground_truth_of


@register("verifier", "regex")
@dataclass(kw_only=True)
class Regex(Verifier):
    """1 where `pattern` is found in the response, else 0.

    full: the whole response must match. compare: the last match's first group (the match itself, without groups) must
    be the ground truth, apart from whitespace around it. The syntax is that of the package regex, a superset of `re`;
    flags go in front, (?s). A search that takes longer than `timeout` seconds, of CPU time of this process, scores 0.
    """

    pattern: str
    full: bool = False
    compare: bool = False
    timeout: float = 1.0

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ConfigError(f"verifier regex: timeout must be above 0 seconds, not {self.timeout}")
        try:
            self._compiled = regex.compile(self.pattern)
        except (regex.error, RecursionError) as error:
            raise ConfigError(f"verifier regex: pattern={self.pattern}: not a regular expression, {error}") from error

    def score_one(self, response: str, prompt: Prompt) -> float:
        """1.0 or 0.0. With `compare`, raises ConfigError for a prompt without a ground truth."""
        truth = ground_truth_of(prompt) if self.compare else None
        found = self._found(response)
        return float(found is not None and truth in (None, found.strip()))

    def extract_answer(self, response: str) -> str:
        """What is compared, or was found; nothing without a match."""
        return (self._found(response) or "").strip()

    def _found(self, response: str) -> str | None:
        try:
            if self.full:
                match = self._compiled.fullmatch(response, timeout=self.timeout)
            elif self.compare:
                match = next(iter(deque(self._compiled.finditer(response, timeout=self.timeout), maxlen=1)), None)
            else:
                match = self._compiled.search(response, timeout=self.timeout)
        except TimeoutError:
            return None
        return None if match is None else str(match[1 if self._compiled.groups else 0] or "")
