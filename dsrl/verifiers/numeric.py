"""Numbers, within a tolerance."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.exact import marked_or_boxed
from dsrl.verifiers.number import last_number
from dsrl.verifiers.verifier import Verifier, ground_truth_of

TAIL = 10_000


@register("verifier", "numeric")
@dataclass(kw_only=True)
class Numeric(Verifier):
    """1 where the answer's number is within a tolerance of the ground truth's, else 0.

    Within means |answer - truth| <= max(rel_tol * |truth|, abs_tol), in double precision. The number is the last one
    of what `exact` takes for the answer: after the last `marker`, else in the last \\boxed{}, else in the whole
    response (its last 10,000 characters). Read are 1,234.5, 1 000 000, -.5, 1e-3, 1.5 \\times 10^{3}, 2^{10}, 3/4,
    \\frac{3}{4}, \\frac12 and 3 1/2; what stands around it, such as units (m^2), $ and %, is left aside: 50% is 50.
    Part of an expression, such as \\sqrt{2}, \\frac{\\pi}{2}, 2 + 3 or x - 5, is no number.
    """

    rel_tol: float = 1e-6
    abs_tol: float = 0.0
    marker: str = "#"

    def __post_init__(self) -> None:
        for name, value in (("rel_tol", self.rel_tol), ("abs_tol", self.abs_tol)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"verifier numeric: {name} must be a number of at least 0, not {value}")
        if not self.marker:
            raise ConfigError("verifier numeric: marker must not be empty")

    def score_one(self, response: str, prompt: Prompt) -> float:
        """1.0 or 0.0. Raises ConfigError for a ground truth that is no number, such as an expression."""
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
        """The text in which the number is looked for."""
        return marked_or_boxed(response[-TAIL:], self.marker)
