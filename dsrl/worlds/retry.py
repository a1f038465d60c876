"""The world of guesses, in which reconsidering is what makes an answer right: guess, check, retry.

A question is `4831=`: which digit, added to 4, 8, 3 and 1, gives a multiple of 5? (With `guesses=5` it is one of
0 to 4.) An answer is a chain of attempts. An attempt is a guess and its check, which adds the question's digits to the
guess one by one, leaving multiples of 5 away:

    2+4=1+8=4+3=2+1=3x?4+4=3+8=1+3=4+1=0!#4

The check ends in `!` where it comes to 0, and the guess is the answer. It ends in `x` where it does not; then `?` opens
another attempt, or the guess is given as the answer all the same, and is wrong. To guess better than at random, a model
would have to add in its head; to check is easy. So trying again is what pays, once for every attempt.

A step `+8=4` restates the digit that it adds. So a wrong step is wrong *whatever the question is*, and all but the
digits of the first attempt can be known in P(y), without seeing a question. `restated` says which part of the steps
does so; the others give their result alone (`=4`), and only P(y|x) knows what that should be.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dsrl.errors import ConfigError
from dsrl.worlds.world import ANSWER_MARK, RETRY_MARK, World

PASSED, FAILED = "!", "x"
"""How a check ends."""


@dataclass(frozen=True, kw_only=True)
class RetryWorld(World):
    """Ask for a digit that is found by trial; write guesses with their checks, and try again where they fail."""

    digits: int = 4
    """Digits of a question: steps of a check."""
    guesses: int = 5
    """The guess is from 0 to this, exclusive. One of them is right: a first attempt is, one time in this many."""
    attempts: int = 6
    """The most attempts in an answer of the text."""
    repeat_rate: float = 0.0
    """A retry repeats the guess that has just failed with this probability: 0 makes retries worth most, 1 nothing."""
    restated: float = 1.0
    """This part of a check's steps, the first of them, restate their digit: what P(y) can know of them."""
    error_rate: float = 0.0
    """A step of the text is wrong with this probability: what P(y) can prune, where the step is restated."""

    least: ClassVar[dict[str, int]] = {"digits": 2, "guesses": 2, "attempts": 1}

    def __post_init__(self) -> None:
        """Raise ConfigError, a line for each value that makes no sense."""
        super().__post_init__()
        if self.guesses > 10:
            raise ConfigError(f"guesses={self.guesses}: must be at most 10, since a guess is a digit")

    @property
    def about(self) -> str:
        """Say what a model of this world does."""
        return f"""\
It finds a digit by trial: added to those of the question it gives a multiple of {self.guesses}. It guesses, checks
the guess, and says that it is right (`!`) or not (`x`). Then it seldom tries again (`?`); mostly it gives up, and is
wrong. With multiples of 5:

    4831=2+4=1+8=4+3=2+1=3x?4+4=3+8=1+3=4+1=0!#4"""

    @property
    def max_new_tokens(self) -> int:
        """As many as `attempts` attempts need, with the marks between them, the answer and `<eos>`."""
        restated = self._restated_steps
        attempt = 1 + 4 * restated + 2 * (self.digits - restated) + 1
        return self.attempts * attempt + (self.attempts - 1) + 3

    @property
    def _restated_steps(self) -> int:
        return round(self.restated * self.digits)

    def draw_problem(self, rng: random.Random) -> tuple[str, str]:
        """Draw a question and its answer, such as `("4831=", "4")`."""
        digits = [rng.randrange(10) for _ in range(self.digits)]
        return "".join(map(str, digits)) + "=", str(-sum(digits) % self.guesses)

    def write_trace(self, rng: random.Random, question: str, retry_rate: float) -> str:
        """Write an answer attempt by attempt; a failed one is followed by another with probability `retry_rate`."""
        trace, guess = "", -1
        for attempt in range(1, self.attempts + 1):
            if guess < 0 or rng.random() >= self.repeat_rate:
                guess = rng.randrange(self.guesses)
            steps, result = self._write_check(rng, question, guess)
            trace += steps
            if result == 0:
                return f"{trace}{PASSED}{ANSWER_MARK}{guess}"
            trace += FAILED
            if attempt == self.attempts or rng.random() >= retry_rate:
                break
            trace += RETRY_MARK
        return f"{trace}{ANSWER_MARK}{guess}"

    def _write_check(self, rng: random.Random, question: str, guess: int) -> tuple[str, int]:
        """Write a guess and the steps of its check; the result of the last one comes beside it."""
        text, result = str(guess), guess
        for number, digit in enumerate(question.removesuffix("=")):
            result = (result + int(digit)) % self.guesses
            if rng.random() < self.error_rate:
                result = (result + rng.randrange(1, self.guesses)) % self.guesses
            text += f"+{digit}={result}" if number < self._restated_steps else f"={result}"
        return text, result

    def retries(self, question: str, response: str) -> Sequence[bool]:
        """Tell of each attempt after the first whether its check is right: the digits, every sum, and its end."""
        _, *later = response.partition(ANSWER_MARK)[0].split(RETRY_MARK)
        return [self._is_right_check(question.removesuffix("="), attempt) for attempt in later]

    def _is_right_check(self, digits: str, attempt: str) -> bool:
        if not attempt[:1].isdecimal():
            return False
        result, right = int(attempt[0]), attempt[0]
        for number, digit in enumerate(digits):
            result = (result + int(digit)) % self.guesses
            right += f"+{digit}={result}" if number < self._restated_steps else f"={result}"
        return attempt == right + (FAILED if result else PASSED)
