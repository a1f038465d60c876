"""Runs in a worker of verifier `math`: compares a response with a ground truth by math-verify."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

READING = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())

_strict = True


def start(strict: str) -> None:
    """Set the mode, "strict" or "lenient", and load math-verify's patterns and grammar before the first request."""
    global _strict
    _strict = strict == "strict"
    reply(("\\boxed{1}", ("1",)))


def reply(request: tuple[str, tuple[str, ...]]) -> str:
    """Return the verdict on (response, LaTeX that is right): "right", "wrong", or "unreadable truth".

    The truth is unreadable where math-verify finds no expression in it.
    """
    response, truths = request
    gold = [found for truth in truths for found in _read_truth(truth)]
    given = parse(response, READING, parsing_timeout=None)
    if verify(gold, given, strict=_strict, allow_set_relation_comp=not _strict, timeout_seconds=None):
        return "right"
    return "unreadable truth" if all(isinstance(reading, str) for reading in gold) else "wrong"


@lru_cache(maxsize=256)
def _read_truth(truth: str) -> list[Any]:
    return list(parse(f"\\boxed{{{truth}}}", READING, parsing_timeout=None))
