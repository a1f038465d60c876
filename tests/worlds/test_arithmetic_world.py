import random
import re

import pytest

from dsrl.errors import ConfigError
from dsrl.worlds import ArithmeticWorld

STEP = re.compile(r"(\??)(\d)\+(\d)\+(\d)=(\d+);")


def trace(question: str, error_rate: float = 0.0, retry_rate: float = 0.0) -> str:
    return ArithmeticWorld(error_rate=error_rate).write_trace(random.Random(0), question, retry_rate)


def test_a_trace_worked_out_by_hand() -> None:
    assert trace("537+920=") == "7+0+0=7;3+2+0=5;5+9+0=14;#1457"


def test_a_carry_goes_into_the_next_step_and_leaves_no_leading_0() -> None:
    assert trace("185+217=") == "5+7+0=12;8+1+1=10;1+2+1=4;#402"


def test_every_step_wrong_and_taken_back_ends_right() -> None:
    written = trace("537+920=", error_rate=1.0, retry_rate=1.0)
    wrong = re.fullmatch(
        r"7\+0\+0=(\d+);\?7\+0\+0=7;3\+2\+0=(\d+);\?3\+2\+0=5;5\+9\+0=(\d+);\?5\+9\+0=14;#1457", written
    )
    assert wrong is not None
    for result, right in zip(map(int, wrong.groups()), (7, 5, 14), strict=True):
        assert 1 <= abs(result - right) <= 2


def test_a_slip_that_stands_is_carried_on() -> None:
    """Whatever a step says last goes into the next carry and into the sum."""
    rng, world = random.Random(1), ArithmeticWorld(error_rate=0.5)
    for _ in range(200):
        question, _ = world.sample_problem(rng)
        *steps, total = world.write_trace(rng, question, retry_rate=0.5).split(";")
        standing = [step for step, after in zip(steps, [*steps[1:], ""], strict=True) if not after.startswith("?")]
        results = [int(step.partition("=")[2]) for step in standing]
        carries = [int(step.partition("=")[0][-1]) for step in standing]
        assert carries == [0, *(result // 10 for result in results[:-1])]
        digits = [results[-1], *(result % 10 for result in reversed(results[:-1]))]
        assert int(total.removeprefix("#")) == int("".join(map(str, digits)))


@pytest.mark.parametrize("digits", [2, 3, 4, 6])
def test_without_slips_every_trace_is_right(digits: int) -> None:
    rng, world = random.Random(2), ArithmeticWorld(digits=digits, error_rate=0.0)
    for _ in range(200):
        question, answer = world.sample_problem(rng)
        written = world.write_trace(rng, question, retry_rate=1.0)
        assert world.is_right(written, answer)
        assert "?" not in written
        assert len(STEP.findall(written)) == digits


def test_slips_and_reconsiderations_come_at_their_rates() -> None:
    rng, world = random.Random(3), ArithmeticWorld(error_rate=0.4)
    steps = [s for _ in range(2000) for s in STEP.findall(world.write_trace(rng, world.sample_problem(rng)[0], 0.25))]
    first = [s for s in steps if not s[0]]
    wrong = [s for s in first if int(s[1]) + int(s[2]) + int(s[3]) != int(s[4])]
    assert len(first) == 8000
    assert len(wrong) / len(first) == pytest.approx(0.4, abs=0.02)  # 3.6 standard deviations
    assert (len(steps) - len(first)) / len(wrong) == pytest.approx(0.25, abs=0.03)  # 3.9


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("7+0+0=7;3+2+0=5;5+9+0=14;#1457", []),
        ("7+0+0=8;?7+0+0=7;3+2+0=6;?3+2+0=5;5+9+0=14;#1457", [True, True]),
        ("7+0+0=8;?7+0+0=9;3+2+0=5;5+9+0=14;#1459", [False]),  # does not add up
        ("7+0+0=8;?3+2+0=5;5+9+0=14;#1458", [False]),  # not the step before it
        ("7+0+0=8;?7+0+0=9;?7+0+0=7;", [False, True]),
        ("7+0+0=8;?7+0", [False]),  # cut off
        ("?", [False]),
    ],
)
def test_a_reconsideration_is_right_in_itself_where_it_restates_and_adds_up(response: str, right: list[bool]) -> None:
    assert ArithmeticWorld().retries("537+920=", response) == right


def test_problems_are_right_and_repeat_with_the_seed() -> None:
    problems = [ArithmeticWorld(digits=3).sample_problem(random.Random(5)) for _ in range(2)]
    assert problems[0] == problems[1]
    question, answer = problems[0]
    a, b = question.removesuffix("=").split("+")
    assert len(a) == len(b) == 3
    assert int(a) + int(b) == int(answer)


def test_values_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^digits=1: must be at least 2\nerror_rate=1.5: must be from 0 to 1$"):
        ArithmeticWorld(digits=1, error_rate=1.5)
