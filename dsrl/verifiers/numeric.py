"""Verifier `numeric`: the number of the final answer, within a tolerance."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.exact import marked_or_boxed
from dsrl.verifiers.ground_truth import ground_truth_of
from dsrl.verifiers.last_number import last_number
from dsrl.verifiers.verifier import Verifier

TAIL = 10_000
"""Characters at the end of a response that are read."""


@register("verifier", "numeric")
@dataclass(kw_only=True)
class Numeric(Verifier):
    """Score 1 where the answer's number is within a tolerance of the ground truth's number, else 0.

    Within means |answer - truth| <= max(rel_tol * |truth|, abs_tol), in double precision.

    The number is the last one of the text that `exact` takes for the answer: the text after the last `marker`, else the
    content of the last \\boxed{}, else the whole response. Only the last 10,000 characters of a response are read.
    Numbers may be written as 1,234.5, 1 000 000, -.5, 1e-3, 1.5 \\times 10^{3}, 2^{10}, 3/4, \\frac{3}{4}, \\frac12 and
    3 1/2. Units such as m^2, $ and % around a number are ignored: 50% is 50. An answer that ends in an expression, such
    as \\sqrt{2}, \\frac{\\pi}{2}, 2 + 3 or x - 5, has no number.

    A response without a number scores 0. A ground truth without one is an error.
    """

    rel_tol: float = 1e-6
    """The largest difference that is accepted, as a share of the ground truth."""
    abs_tol: float = 0.0
    """The largest difference that is accepted, as a number. The larger of both tolerances counts."""
    marker: str = "#"
    """What stands before the answer."""

    def __post_init__(self) -> None:
        for name, value in (("rel_tol", self.rel_tol), ("abs_tol", self.abs_tol)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"verifier numeric: {name} must be a number of at least 0, not {value}")
        if not self.marker:
            raise ConfigError("verifier numeric: marker must not be empty")

    def score_one(self, response: str, prompt: Prompt) -> float:
        """Return 1.0 or 0.0. Raises ConfigError for a ground truth that is no number, such as an expression."""
        truth, given = last_number(ground_truth_of(prompt)), last_number(self.extract_answer(response))
        if truth is None:
            raise ConfigError(
                f"verifier numeric: the ground truth {prompt.ground_truth[:80]!r} is no number; verifier=math compares "
                f"expressions. The question begins {prompt.text[:80]!r}"
            )
        if given is None:
            return 0.0
        return float(abs(given - truth) <= max(self.rel_tol * abs(truth), self.abs_tol))

    def extract_answer(self, response: str) -> str:
        """Return the text in which the number is looked for."""
        return marked_or_boxed(response[-TAIL:], self.marker)
