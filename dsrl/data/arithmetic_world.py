"""Write questions and answers of a world of additions, small enough to show on a CPU what PreRL does.

A question is `537+920=`. An answer to it is a trace: one step a digit, units first, then `#` and the sum:

    7+0+0=7;3+2+0=5;5+9+0=14;#1457

A step reads `digit+digit+carry=result;`. It restates its operands, so a wrong step is wrong *whatever the question is*:
that part of being right can be learnt or unlearnt in P(y), without seeing a question. Which digits to add, only P(y|x)
knows.

A step may be wrong (`3+2+0=6;`), and a wrong step may be taken back: `?` opens a reconsideration, the same step again,
now right (`3+2+0=6;?3+2+0=5;`). What comes after a step, the next carry and the sum included, follows from the result
that stands last. Counting `?` counts reflection.

A stable hash of the question says whether it is held out. So training and validation are disjoint in pre-training and
in RL, on every machine.
"""

import random
import zlib

DIGITS = 4
"""Digits of both numbers, in the text that `dsrl/models/tiny` was pre-trained on."""

RECONSIDER = "?"
"""The character that opens a reconsideration."""

HELD_OUT_ONE_IN = 10
"""One question in this many is held out."""


def is_held_out(question: str, one_in: int = HELD_OUT_ONE_IN) -> bool:
    """Tell whether a question belongs to validation, as one in `one_in` does. It depends on the text alone."""
    return zlib.crc32(question.encode()) % one_in == 0


def sample_problem(rng: random.Random, digits: int = DIGITS, held_out: bool = False) -> tuple[str, str]:
    """Draw a question and its answer, such as `("537+920=", "1457")`.

    Both numbers have `digits` digits, none of them a leading 0.
    `held_out` says on which side of the split to draw; the draw is uniform over that side. Raises ValueError for fewer
    than 2 digits.
    """
    if digits < 2:
        raise ValueError(
            f"digits is {digits}; at least 2, since so few sums have 1 digit that a side of the split is all but empty."
        )
    while True:
        a, b = (rng.randrange(10 ** (digits - 1), 10**digits) for _ in range(2))
        question = f"{a}+{b}="
        if is_held_out(question) == held_out:
            return question, str(a + b)


def write_trace(rng: random.Random, question: str, error_rate: float = 0.0, reconsider_rate: float = 0.0) -> str:
    """Write an answer to a question, step by step.

    Args:
        rng: where the random numbers come from.
        question: such as `537+920=`.
        error_rate: the probability that a step is wrong, by 1 or 2; with 0 the sum is right.
        reconsider_rate: the probability that a wrong step is taken back.
    """
    a, b = question.removesuffix("=").split("+")
    steps, total, carry = [], "", 0
    for x, y in zip(reversed(a), reversed(b), strict=True):
        right = result = int(x) + int(y) + carry
        if rng.random() < error_rate:
            result = rng.choice([r for r in range(max(0, right - 2), right + 3) if r != right])
        steps.append(f"{x}+{y}+{carry}={result};")
        if result != right and rng.random() < reconsider_rate:
            result = right
            steps.append(f"{RECONSIDER}{x}+{y}+{carry}={result};")
        carry = result // 10
        total = f"{result % 10}{total}"
    return "".join(steps) + f"#{carry or ''}{total}"
