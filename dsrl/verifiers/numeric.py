"""Verifier `numeric`: the number of the final answer, within a tolerance."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.answer_forms import other_verifier
from dsrl.verifiers.exact import marked_or_boxed
from dsrl.verifiers.ground_truth import ground_truth_of, text_problem
from dsrl.verifiers.last_boxed import ends_in_a_box
from dsrl.verifiers.last_number import last_number
from dsrl.verifiers.single_number import number_value
from dsrl.verifiers.verifier import Verifier

TAIL = 10_000
"""Characters at the end of a response that are read."""
WORDS = r"[^\d<>\u2264\u2265\u00b1!_:;()\[\]{}|^+=/\\]*"
ALONE = re.compile(rf"{WORDS}\$?-?\d[\d,]*(?:\.\d+)?(?![\w!^]){WORDS}", re.DOTALL)
"""A text with one number among words."""
EQUALS = re.compile(r"=|\\approx|\u2248")
SEVERAL = re.compile(r"[,;]\s|\b(?:or|and)\b")


@register("verifier", "numeric")
@dataclass(kw_only=True)
class Numeric(Verifier):
    """Score 1 where the answer's number is within a tolerance of the ground truth's number, else 0.

    Within means |answer - truth| <= max(rel_tol * |truth|, abs_tol), in double precision.

    The answer is the text after the last `marker`, else the content of the last \\boxed{}, and must be one number;
    where there is neither, it is the last number of the response. A response that is cut off in a box has none. Only
    the last 10,000 characters are read.

    Numbers may be written as 1,234.5, 1 000 000, 1.234.567, -.5, 1e-3, 1.5 \\times 10^{3}, 2^{10}, 3/4, \\frac{3}{4},
    \\frac12, 3 1/2, 2\u00bd, 1st and 2 million. A name before it (x = 5) and units around it (m^2, $, %, km/h, apples)
    are ignored: 50% is 50. What is several numbers or an expression is none: 3:4, 12:45, (1, 2), 2020-01-05, 5!, 4i,
    1011_2, 0.\\overline{3}, x < 3, 3 feet 4 inches, \\sqrt{2}, 2 + 3.

    A response without a number scores 0. A ground truth that is none is an error.
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
        """Return 1.0 or 0.0. Raises ConfigError for a ground truth that is not one number, such as an expression."""
        truth, given = self._truth(ground_truth_of(prompt)), self._answer(response[-TAIL:])
        if truth is None:
            problem = self.ground_truth_problem(prompt)
            raise ConfigError(f"verifier numeric: {problem}. The question begins {prompt.text[:80]!r}")
        if given is None:
            return 0.0
        return float(abs(given - truth) <= max(self.rel_tol * abs(truth), self.abs_tol))

    def extract_answer(self, response: str) -> str:
        """Return the text in which the number is looked for."""
        return marked_or_boxed(response[-TAIL:], self.marker)

    def ground_truth_problem(self, prompt: Prompt) -> str | None:
        """Say that a ground truth is not one number; None where it is."""
        if problem := text_problem(prompt):
            return problem
        truth = ground_truth_of(prompt)
        if self._truth(truth) is not None:
            return None
        return f"the ground truth {truth[:80]!r} is no number; {other_verifier(truth)}"

    def _truth(self, truth: str) -> float | None:
        """The number that a ground truth is, or that stands behind its marker, as in GSM8K's answers."""
        return number_value(marked_or_boxed(truth, self.marker))

    def _answer(self, response: str) -> float | None:
        answer = marked_or_boxed(response, self.marker)
        if answer == response.strip():
            if ends_in_a_box(answer):
                return None
            number = number_value(answer)
            return last_number(answer) if number is None else number
        parts = [answer] if SEVERAL.search(answer) else [answer, *EQUALS.split(answer)[-1:]]
        number = next((found for part in parts if (found := number_value(part)) is not None), None)
        return last_number(answer) if number is None and ALONE.fullmatch(answer) else number
