"""Verifier `math`: mathematical equality, by math-verify (github.com/huggingface/Math-Verify)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.ground_truth import ground_truth_of, text_problem
from dsrl.verifiers.last_boxed import ends_in_a_box, last_boxed, plain_boxes
from dsrl.verifiers.math_reading import is_in_another_base, is_same_text, read_truth, readable
from dsrl.verifiers.workers.pool import Worker
from dsrl.verifiers.workers.pooled_verifier import PooledVerifier

HANDLER = Path(__file__).parent / "workers" / "math_handler.py"
TAIL = 10_000
"""Characters at the end of a response that are read."""
MEMORY = 2 * 2**30
"""Bytes that a worker may use."""


@register("verifier", "math")
@dataclass(kw_only=True)
class Math(PooledVerifier):
    """Score 1 where math-verify finds the response's answer equal to the ground truth, else 0.

    The answer is what math-verify finds in boxes, else the last expression. Only the last 10,000 characters of a
    response are read, and one that is cut off in a box scores 0. Checks run in worker processes: an answer whose check
    takes longer than `timeout`, needs more than 2 GiB or crashes scores 0, and the other answers are not affected.

    A ground truth is LaTeX, or what else people write:

    - a number in plain text (5., 1e-3, 3 1/2, 1,234), whose unit does not count (18 dollars, 5 km/h)
    - a percentage: 50% is \\boxed{50\\%}, 0.5 or 50
    - words, dates, times of day, and quantities in several units (east, no solution, 2020-01-05, 3 feet 4 inches),
      which are compared as text, apart from upper and lower case, with the content of the last box, else with what is
      said to be the answer, else with the end of the last line; a word is never the product of its letters
    - the letter of a choice, as `choice` reads it
    - a number in a base (2516_8): an answer may leave the base out, but not have another

    math-verify rounds numbers to six places. Two must also agree to a thousandth, however small they are.

    A ground truth in which math-verify finds no expression is compared as a string, with the content of the last box or
    else the last line.

    The lenient mode (`strict` false) is math-verify's with `strict=False` and `allow_set_relation_comp=True`: variables
    match by position, so y + 1 equals x + 1, and 1 < x < 2 equals the interval (1, 2).

    A prompt without a ground truth is an error.
    """

    strict: bool = True
    """Compare as math-verify does by default; false: in its lenient mode."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if importlib.util.find_spec("math_verify") is None:
            raise ConfigError("verifier math needs the package math-verify: pip install math-verify")

    def worker(self) -> Worker:
        """Describe a worker that runs math-verify."""
        mode = "strict" if self.strict else "lenient"
        return Worker(handler=HANDLER, timeout=self.timeout, memory=MEMORY, arguments=(mode,))

    def score_all(self, responses: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """Return 1.0 or 0.0 for each of N responses; equal pairs of response and ground truth are checked once.

        Raises ConfigError for a prompt without a ground truth, and DSRLError where the workers cannot start.
        """
        tails = [plain_boxes(text[-TAIL:]) for text in responses]
        pairs = [(text, ground_truth_of(prompt)) for text, prompt in zip(tails, prompts, strict=True)]
        readings = {pair: read_truth(pair[1]) for pair in pairs if not ends_in_a_box(pair[0])}
        right = {pair: is_same_text(pair[0], reading) for pair, reading in readings.items()}
        asked = {
            pair: (readable(pair[0], reading), reading.latex)
            for pair, reading in readings.items()
            if reading.latex and not right[pair] and not is_in_another_base(pair[0], reading)
        }
        for pair, verdict in zip(asked, self.ask_all(list(asked.values())), strict=True):
            right[pair] = self._is_right(verdict, *pair)
        return [float(right.get(pair, False)) for pair in pairs]

    def ground_truth_problem(self, prompt: Prompt) -> str | None:
        """Say that a row has no ground truth, or one that is not text; None for all others."""
        return text_problem(prompt)

    def extract_answer(self, response: str) -> str:
        """Return the content of the last box, else the last line, where math-verify probably finds its expression."""
        tail = response[-TAIL:].strip()
        boxed = last_boxed(tail)
        return tail.rpartition("\n")[2] if boxed is None else boxed.strip()

    def _is_right(self, verdict: str | None, response: str, truth: str) -> bool:
        if verdict == "unreadable truth":
            return self.extract_answer(response) == truth
        return verdict == "right"
