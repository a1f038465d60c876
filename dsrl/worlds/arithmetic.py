"""The world of additions, small enough to show on a CPU what PreRL does.

A question is `537+920=`. An answer to it is a trace: one step a digit, units first, then `#` and the sum:

    7+0+0=7;3+2+0=5;5+9+0=14;#1457

A step reads `digit+digit+carry=result;`. It restates its operands, so a wrong step is wrong *whatever the question is*:
that part of being right can be learnt or unlearnt in P(y), without seeing a question. Which digits to add, only P(y|x)
knows.

A step may be wrong (`3+2+0=6;`), and a wrong step may be taken back: `?` opens a reconsideration, the same step again,
now right (`3+2+0=6;?3+2+0=5;`). What comes after a step, the next carry and the sum included, follows from the result
that stands last.

Reconsidering is one way to be right here; not to slip is the other, and the better one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dsrl.worlds.world import RETRY_MARK, World

STEP = re.compile(r"(\?)?(\d)\+(\d)\+(\d)=(\d+);")


@dataclass(frozen=True, kw_only=True)
class ArithmeticWorld(World):
    """Ask for sums of two numbers; write out the steps, slip, and take some of the slips back."""

    digits: int = 4
    """Digits of both numbers, none of them a leading 0."""
    error_rate: float = 0.3
    """A step of the text is wrong with this probability, by 1 or 2."""

    @property
    def about(self) -> str:
        """Say what a model of this world does."""
        return """\
It adds two numbers, writing its steps, with slips in them and now and then a reconsideration (`?`):

    5037+9208=7+8+0=13;?7+8+0=15;3+0+1=4;0+2+0=2;5+9+0=14;#14245"""

    @property
    def max_new_tokens(self) -> int:
        """24 a digit: with 4, each step taken back, an answer has 74 to 83 tokens with the sum and `<eos>`."""
        return 24 * self.digits

    def draw_problem(self, rng: random.Random) -> tuple[str, str]:
        """Draw a question and its answer, such as `("537+920=", "1457")`."""
        a, b = (rng.randrange(10 ** (self.digits - 1), 10**self.digits) for _ in range(2))
        return f"{a}+{b}=", str(a + b)

    def write_trace(self, rng: random.Random, question: str, retry_rate: float) -> str:
        """Write an answer step by step, in which a wrong step is taken back with probability `retry_rate`."""
        a, b = question.removesuffix("=").split("+")
        steps, total, carry = [], "", 0
        for x, y in zip(reversed(a), reversed(b), strict=True):
            right = result = int(x) + int(y) + carry
            if rng.random() < self.error_rate:
                result = rng.choice([r for r in range(max(0, right - 2), right + 3) if r != right])
            steps.append(f"{x}+{y}+{carry}={result};")
            if result != right and rng.random() < retry_rate:
                result = right
                steps.append(f"{RETRY_MARK}{x}+{y}+{carry}={result};")
            carry = result // 10
            total = f"{result % 10}{total}"
        return "".join(steps) + f"#{carry or ''}{total}"

    def retries(self, question: str, response: str) -> Sequence[bool]:
        """Tell of each reconsideration whether it restates the step before it, and adds up."""
        found, before = [], ""
        for step in response.split(";"):
            match = STEP.fullmatch(f"{step};")
            if step.startswith(RETRY_MARK):
                asked = step.removeprefix(RETRY_MARK).partition("=")[0]
                found.append(
                    match is not None and asked == before and sum(map(int, match.group(2, 3, 4))) == int(match[5])
                )
            before = step.removeprefix(RETRY_MARK).partition("=")[0]
        return found
