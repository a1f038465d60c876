"""The final answer, letter for letter."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.boxed import last_boxed
from dsrl.verifiers.verifier import Verifier, ground_truth_of

GROUPED_NUMBER = re.compile(r"[-+]?\$?\d{1,3}(,\d{3})+(\.\d+)?")


@register("verifier", "exact")
@dataclass(kw_only=True)
class Exact(Verifier):
    """1 where the answer is the ground truth as a string, else 0.

    The answer is the text after the last `marker` ("#" also reads GSM8K's "####"); without one, the content of the last
    \\boxed{}; without that, the whole text. Nothing after the marker scores 0. Whitespace around it is dropped and case
    counts. Commas are dropped where the whole string is one number grouped by thousands: 1,234 is 1234, (1,200) stays.
    """

    marker: str = "#"

    def __post_init__(self) -> None:
        if not self.marker:
            raise ConfigError("verifier exact: marker must not be empty")

    def score_one(self, response: str, prompt: Prompt) -> float:
        """1.0 or 0.0. Raises ConfigError for a prompt without a ground truth."""
        return float(_comparable(self.extract_answer(response)) == _comparable(ground_truth_of(prompt)))

    def extract_answer(self, response: str) -> str:
        """The text that is compared."""
        return marked_or_boxed(response, self.marker)


def marked_or_boxed(response: str, marker: str) -> str:
    """The text after the last `marker`, else in the last box, else all of it; stripped."""
    _, found, after = response.rpartition(marker)
    boxed = None if found else last_boxed(response)
    return (after if boxed is None else boxed).strip()


def _comparable(answer: str) -> str:
    return answer.replace(",", "") if GROUPED_NUMBER.fullmatch(answer) else answer
