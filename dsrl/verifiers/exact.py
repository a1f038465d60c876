"""Verifier `exact`: the final answer as a string."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.ground_truth import ground_truth_of
from dsrl.verifiers.last_boxed import last_boxed
from dsrl.verifiers.verifier import Verifier

GROUPED_NUMBER = re.compile(r"[-+]?\$?\d{1,3}(,\d{3})+(\.\d+)?")


@register("verifier", "exact")
@dataclass(kw_only=True)
class Exact(Verifier):
    """Score 1 where the answer and the ground truth are the same string, else 0.

    The answer is the text after the last `marker`. Without a marker it is the content of the last \\boxed{}, and
    without a box the whole response. A response that ends with the marker has an empty answer, and scores 0.

    Whitespace around both strings is dropped; upper and lower case differ. Where the whole string is one number with
    commas between its thousands, the commas are dropped: 1,234 equals 1234, but (1,200) does not equal (1200).

    A prompt without a ground truth is an error.
    """

    marker: str = "#"
    """What stands before the answer. `#` also finds GSM8K's `####`."""

    def __post_init__(self) -> None:
        if not self.marker:
            raise ConfigError("verifier exact: marker must not be empty")

    def score_one(self, response: str, prompt: Prompt) -> float:
        """Return 1.0 or 0.0. Raises ConfigError for a prompt without a ground truth."""
        return float(_without_grouping(self.extract_answer(response)) == _without_grouping(ground_truth_of(prompt)))

    def extract_answer(self, response: str) -> str:
        """Return the text that is compared."""
        return marked_or_boxed(response, self.marker)


def marked_or_boxed(response: str, marker: str) -> str:
    """Return the text after the last `marker`, else the content of the last box, else the whole response; stripped."""
    _, found, after = response.rpartition(marker)
    boxed = None if found else last_boxed(response)
    return (after if boxed is None else boxed).strip()


def _without_grouping(answer: str) -> str:
    return answer.replace(",", "") if GROUPED_NUMBER.fullmatch(answer) else answer
