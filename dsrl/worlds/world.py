"""The base class of worlds: questions, the text that a small model is pre-trained on, and what a retry is in it."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from dsrl.errors import ConfigError
from dsrl.worlds.held_out import is_held_out

RETRY_MARK = "?"
"""The character that opens a retry, in every world. Counting it counts reflection."""

ANSWER_MARK = "#"
"""The character that the answer follows."""


@dataclass(frozen=True, kw_only=True)
class World(ABC):
    """Write questions and answers with rules that are known, so that a small model can be made for them in minutes."""

    digits: int
    """Digits of a question's numbers: how long an answer is."""
    error_rate: float
    """A step of the text is wrong with this probability."""
    no_question: float = 0.3
    """This part of the text has no question in front: what the model learns P(y) from."""

    least: ClassVar[dict[str, int]] = {"digits": 2}
    """The least that whole numbers may be."""

    def __post_init__(self) -> None:
        """Raise ConfigError, a line for each value that makes no sense."""
        problems = [
            f"{key}={getattr(self, key)}: must be at least {least}"
            for key, least in self.least.items()
            if getattr(self, key) < least
        ]
        problems += [
            f"{field.name}={getattr(self, field.name)}: must be from 0 to 1"
            for field in fields(self)
            if field.type == "float" and not 0 <= getattr(self, field.name) <= 1
        ]
        if problems:
            raise ConfigError("\n".join(problems))

    @property
    @abstractmethod
    def about(self) -> str:
        """Say what a model of the world does, and show an answer, for the card of the model."""

    @property
    @abstractmethod
    def max_new_tokens(self) -> int:
        """How many tokens the longest answer of the text needs, its end token included, and some more."""

    @abstractmethod
    def draw_problem(self, rng: random.Random) -> tuple[str, str]:
        """Draw a question and its answer, of either side of the split."""

    @abstractmethod
    def write_trace(self, rng: random.Random, question: str, retry_rate: float) -> str:
        """Write an answer to a question, in which what failed is tried again with probability `retry_rate`."""

    @abstractmethod
    def retries(self, question: str, response: str) -> Sequence[bool]:
        """Tell of each retry in a response, in order, whether it is right in itself: whether it does what it set out
        to do. That the answer is right in the end is another matter.
        """

    def sample_problem(self, rng: random.Random, held_out: bool = False) -> tuple[str, str]:
        """Draw a question and its answer, uniformly over one side of the split."""
        while True:
            question, answer = self.draw_problem(rng)
            if is_held_out(question) == held_out:
                return question, answer

    def write_line(self, rng: random.Random, retry_rate: float) -> str:
        """Write one line of the pre-training text, without its `<bos>`. No held-out question is ever used."""
        question, _ = self.sample_problem(rng)
        trace = self.write_trace(rng, question, retry_rate)
        return f"{'' if rng.random() < self.no_question else question}{trace}<eos>"

    def is_right(self, response: str, answer: str) -> bool:
        """Tell whether a response ends with the answer, as verifier `exact` does."""
        return response.rpartition(ANSWER_MARK)[2] == answer
