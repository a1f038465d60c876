"""Runs in a worker of verifier `math`: compares a response with a ground truth by math-verify."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from sympy import Basic, Eq, FiniteSet, Interval, MatrixBase, Rational, Tuple

READING = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())

NEAR = 1e-3
"""How far apart two numbers that math-verify takes for equal may be, as a part of the larger."""

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
    if any(_equal(one, other) for one in gold for other in given):
        return "right"
    return "unreadable truth" if all(isinstance(reading, str) for reading in gold) else "wrong"


def _equal(gold: Any, given: Any) -> bool:
    """Compare as math-verify does, but of numbers the first digits must agree, too: it takes all near 0 for equal."""
    settings = {"strict": _strict, "allow_set_relation_comp": not _strict, "timeout_seconds": None}
    return bool(verify([gold], [given], **settings)) and (gold == given or _near(gold, given))


def _near(one: Any, other: Any) -> bool:
    """Whether no number of one differs from that of the other by more than a thousandth, apart from signs of per cent;
    true of all else.
    """
    one, other = (value.rhs if isinstance(value, Eq) else value for value in (one, other))
    if isinstance(one, MatrixBase) and isinstance(other, MatrixBase):
        return all(map(_near, one.flat(), other.flat()))
    if isinstance(one, FiniteSet | Tuple | Interval) and isinstance(other, FiniteSet | Tuple | Interval):
        ordered = [
            sorted(value.args, key=_place) if isinstance(value, FiniteSet) else value.args for value in (one, other)
        ]
        return all(map(_near, *ordered))
    if not (isinstance(one, Basic) and isinstance(other, Basic) and one.is_number and other.is_number):
        return True
    sizes = [value.evalf(20) for value in (one, other)]
    if not all(size.is_finite for size in sizes):
        return True
    return any(bool(abs(sizes[0] - factor * sizes[1]) <= NEAR * abs(sizes[0])) for factor in (1, 100, Rational(1, 100)))


def _place(value: Any) -> Any:
    return (0, float(value), "") if value.is_number and value.is_real else (1, 0.0, str(value))


@lru_cache(maxsize=256)
def _read_truth(truth: str) -> list[Any]:
    return list(parse(f"\\boxed{{{truth}}}", READING, parsing_timeout=None))
