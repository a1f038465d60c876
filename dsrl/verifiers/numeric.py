"""Numbers, within a tolerance."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.exact import marked_or_boxed
from dsrl.verifiers.verifier import Verifier, ground_truth

TAIL = 10_000
DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
NUMBER = re.compile(
    rf"(?P<sign>[-+\u2212]?)\s*(?:\\?\$\s*)?"
    rf"(?:\\[dt]?frac\s*\{{\s*(?P<top>[-+]?(?:{DECIMAL}))\s*\}}\s*\{{\s*(?P<bottom>{DECIMAL})\s*\}}"
    rf"|(?P<number>{DECIMAL})(?:\s*/\s*(?P<over>{DECIMAL}))?"
    rf"(?:[eE](?P<e>[-+]?\d{{1,4}})(?!\d)|\s*(?:\\times|\\cdot|\u00d7)\s*10\s*\^\s*\{{?\s*(?P<power>[-+]?\d{{1,4}})\s*\}}?)?)"
)


@register("verifier", "numeric")
@dataclass(kw_only=True)
class Numeric(Verifier):
    """1 where the answer's number is within a tolerance of the ground truth's, else 0.

    Within means |answer - truth| <= max(rel_tol * |truth|, abs_tol), in double precision. The number is the last one
    of what `exact` takes for the answer: after the last `marker`, else in the last \\boxed{}, else in the whole
    response (its last 10,000 characters). Read are 1,234.5, -.5, 1e-3, 1.5 \\times 10^{3}, 3/4 and \\frac{3}{4}; what
    stands around it, such as units, $ and %, is left aside: 50% is 50.
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
        """1.0 or 0.0. Raises ConfigError for a ground truth without a number."""
        truth, given = last_number(ground_truth(prompt)), last_number(self.answer(response))
        if truth is None:
            raise ConfigError(
                f"verifier numeric: the ground truth {prompt.answer[:80]!r} holds no number. The question begins "
                f"{prompt.text[:80]!r}"
            )
        if given is None:
            return 0.0
        return float(abs(given - truth) <= max(self.rel_tol * abs(truth), self.abs_tol))

    def answer(self, response: str) -> str:
        """The text in which the number is looked for."""
        return marked_or_boxed(response[-TAIL:], self.marker)


def last_number(text: str) -> float | None:
    """The last number of a text; None without one, or where it is too large for a double."""
    matches = list(NUMBER.finditer(text))
    if not matches:
        return None
    found = matches[-1]
    value = _float(found["top"] or found["number"])
    below = found["bottom"] or found["over"]
    if below:
        if _float(below) == 0:
            return None
        value /= _float(below)
    try:
        value *= 10.0 ** int(found["e"] or found["power"] or 0)
    except OverflowError:
        return None
    value = -value if found["sign"] in ("-", "\u2212") else value
    return value if math.isfinite(value) else None


def _float(digits: str) -> float:
    return float(digits.replace(",", ""))
