"""Verifier `choice`: the letter of a multiple choice."""

from __future__ import annotations

from dataclasses import dataclass

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.answer_forms import other_verifier
from dsrl.verifiers.choice_letter import LETTERS, answered_letter, choice_content, choice_letter
from dsrl.verifiers.ground_truth import ground_truth_of, text_problem
from dsrl.verifiers.last_boxed import last_boxed
from dsrl.verifiers.plain_text import plain_text
from dsrl.verifiers.verifier import Verifier

TAIL = 10_000
"""Characters at the end of a response that are read."""


@register("verifier", "choice")
@dataclass(kw_only=True)
class Choice(Verifier):
    """Score 1 where the response answers with the letter of the ground truth, else 0.

    A ground truth is a letter in one of these forms: A, (A), [A], A., A), \\text{(A)}, A. 5 meters, (A) 5 meters,
    The answer is (C), Option C, \\boxed{A}. A small letter counts as the capital one.

    The answer of a response is the letter in its last \\boxed{}; without a box the last letter that is said to be the
    answer (The answer is (C), Answer: C), else the last in parentheses, else the last that stands alone, which the
    article A and the pronoun I do not. Two letters (A or B) are no answer. In a box, what the ground truth says behind
    its letter is right, too: \\boxed{5 meters} for A. 5 meters. Only the last 10,000 characters are read.

    A ground truth that is no letter is an error.
    """

    letters: str = LETTERS
    """The letters that choices have."""

    def __post_init__(self) -> None:
        if not self.letters.isascii() or not self.letters.isalpha() or not self.letters.isupper():
            raise ConfigError(f"verifier choice: letters must be capital letters, such as ABCDE, not {self.letters!r}")

    def score_one(self, response: str, prompt: Prompt) -> float:
        """Return 1.0 or 0.0. Raises ConfigError for a ground truth that is no letter."""
        problem = self.ground_truth_problem(prompt)
        if problem:
            raise ConfigError(f"verifier choice: {problem}. The question begins {prompt.text[:80]!r}")
        truth, tail = ground_truth_of(prompt), response[-TAIL:]
        if answered_letter(tail, self.letters) == choice_letter(truth, self.letters, small=True):
            return 1.0
        content, boxed = choice_content(truth, self.letters), last_boxed(tail)
        return float(bool(content and boxed) and plain_text(str(content)) == plain_text(str(boxed)))

    def extract_answer(self, response: str) -> str:
        """Return the letter, or empty text without one."""
        return answered_letter(response[-TAIL:], self.letters) or ""

    def ground_truth_problem(self, prompt: Prompt) -> str | None:
        """Say that a ground truth is no letter; None where it is one."""
        if problem := text_problem(prompt):
            return problem
        truth = ground_truth_of(prompt)
        if choice_letter(truth, self.letters, small=True) is not None:
            return None
        return f"the ground truth {truth[:80]!r} is no letter of {self.letters}; {other_verifier(truth)}"
