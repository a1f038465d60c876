"""Verifier `exact`: the final answer as a string."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.answer_forms import form_of
from dsrl.verifiers.ground_truth import ground_truth_of, text_problem
from dsrl.verifiers.last_boxed import last_boxed
from dsrl.verifiers.math_reading import answer_texts
from dsrl.verifiers.plain_text import plain_text
from dsrl.verifiers.verifier import Verifier

HEADING = re.compile(r"^#{1,6}[ \t]+[^\W\d_].*$", re.MULTILINE)
TAIL = 10_000
"""Characters at the end of a response that are read for words."""
GROUPED_NUMBER = re.compile(r"[-+]?\$?\d{1,3}(,\d{3})+(\.\d+)?")


@register("verifier", "exact")
@dataclass(kw_only=True)
class Exact(Verifier):
    """Score 1 where the answer and the ground truth are the same string, else 0.

    The answer is the text after the last `marker`. Without a marker it is the content of the last \\boxed{}, and
    without a box the whole response. A response that ends with the marker has an empty answer, and scores 0.

    Whitespace around both strings is dropped; upper and lower case differ. Where the whole string is one number with
    commas between its thousands, the commas are dropped: 1,234 equals 1234, but (1,200) does not equal (1200).

    With `words`, both strings are compared as words: upper and lower case, \\text{}, dollars, quotes and a final period
    do not count, and without marker and box the answer may also be the end of the last line: It is east.

    A prompt without a ground truth is an error.
    """

    marker: str = "#"
    """What stands before the answer. `#` also finds GSM8K's `####`."""

    words: bool = False
    """Compare as words: apart from upper and lower case and from what is around them."""

    def __post_init__(self) -> None:
        if not self.marker:
            raise ConfigError("verifier exact: marker must not be empty")

    def score_one(self, response: str, prompt: Prompt) -> float:
        """Return 1.0 or 0.0. Raises ConfigError for a prompt without a ground truth."""
        truth, answer = ground_truth_of(prompt), self.extract_answer(response)
        if not self.words:
            return float(_without_grouping(answer) == _without_grouping(truth))
        whole = answer == response.strip()
        answers = answer_texts(response[-TAIL:]) if whole else [answer]
        return float(plain_text(truth) in map(plain_text, answers))

    def ground_truth_problem(self, prompt: Prompt) -> str | None:
        """Say that a row has no ground truth, or one that is not text; None for all others."""
        return text_problem(prompt)

    def summary_of(self, prompts: Sequence[Prompt]) -> list[str]:
        """Say how many ground truths are mathematics, of which few answers are the same letter for letter."""
        truths = [] if self.words else [ground_truth_of(prompt) for prompt in prompts if not text_problem(prompt)]
        # Most truths that can be the same letter for letter are one word or number, and need no closer look.
        if count := sum(not truth.isalnum() and form_of(truth) == "math" for truth in truths):
            return [
                f"{count:,} of {len(prompts):,} ground truths are mathematics, which verifier=exact compares letter "
                "for letter; verifier=math compares what they mean, and verifier=auto chooses for each row"
            ]
        return []

    def extract_answer(self, response: str) -> str:
        """Return the text that is compared."""
        return marked_or_boxed(response, self.marker)


def marked_or_boxed(response: str, marker: str) -> str:
    """Return the text after the last `marker`, else the content of the last box, else the whole response; stripped.

    A Markdown heading behind a box, such as ### Check, is no marker.
    """
    boxed = last_boxed(response)
    _, found, after = (response if boxed is None else HEADING.sub("", response)).rpartition(marker)
    return (after if found or boxed is None else boxed).strip()


def _without_grouping(answer: str) -> str:
    return answer.replace(",", "") if GROUPED_NUMBER.fullmatch(answer) else answer
