"""Verifier `regex`: a regular expression."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import regex

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.ground_truth import ground_truth_of
from dsrl.verifiers.verifier import Verifier


@register("verifier", "regex")
@dataclass(kw_only=True)
class Regex(Verifier):
    """Score 1 where `pattern` is found in the response, else 0; with `compare`, where it finds the ground truth.

    The answer is the first group of the match, or the whole match where the pattern has no groups. A response whose
    search takes longer than `timeout` scores 0. With `compare`, a prompt without a ground truth is an error.
    """

    pattern: str
    """A regular expression of the package `regex`, whose syntax includes that of `re`. Flags stand in front: (?s)."""
    full: bool = False
    """Whether the whole response must match."""
    compare: bool = False
    """Whether the answer, of the last match, must also be the ground truth, apart from whitespace around it."""
    timeout: float = 1.0
    """Seconds that a search may take, in CPU time of the trainer's process."""

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ConfigError(f"verifier regex: timeout must be above 0 seconds, not {self.timeout}")
        try:
            self._compiled = regex.compile(self.pattern)
        except (regex.error, RecursionError) as error:
            raise ConfigError(f"verifier regex: pattern={self.pattern}: not a regular expression, {error}") from error

    def score_one(self, response: str, prompt: Prompt) -> float:
        """Return 1.0 or 0.0. With `compare`, raises ConfigError for a prompt without a ground truth."""
        truth = ground_truth_of(prompt) if self.compare else None
        found = self._found(response)
        return float(found is not None and truth in (None, found.strip()))

    def extract_answer(self, response: str) -> str:
        """Return the answer, or empty text without a match."""
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
