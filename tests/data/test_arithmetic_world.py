import random
import re
import zlib

import pytest

from dsrl.data.arithmetic_world import HELD_OUT_ONE_IN, is_held_out, sample_problem, write_trace

STEP = re.compile(r"(\??)(\d)\+(\d)\+(\d)=(\d+);")


def test_a_trace_worked_out_by_hand() -> None:
    assert write_trace(random.Random(0), "537+920=") == "7+0+0=7;3+2+0=5;5+9+0=14;#1457"


def test_a_carry_goes_into_the_next_step_and_leaves_no_leading_0() -> None:
    assert write_trace(random.Random(0), "185+217=") == "5+7+0=12;8+1+1=10;1+2+1=4;#402"


def test_every_step_wrong_and_taken_back_ends_right() -> None:
    trace = write_trace(random.Random(0), "537+920=", error_rate=1.0, reconsider_rate=1.0)
    wrong = re.fullmatch(r"7\+0\+0=(\d+);\?7\+0\+0=7;3\+2\+0=(\d+);\?3\+2\+0=5;5\+9\+0=(\d+);\?5\+9\+0=14;#1457", trace)
    assert wrong is not None
    for result, right in zip(map(int, wrong.groups()), (7, 5, 14), strict=True):
        assert 1 <= abs(result - right) <= 2


def test_a_slip_that_stands_is_carried_on() -> None:
    """Whatever a step says last goes into the next carry and into the sum."""
    rng = random.Random(1)
    for _ in range(200):
        question, _ = sample_problem(rng)
        *steps, total = write_trace(rng, question, error_rate=0.5, reconsider_rate=0.5).split(";")
        standing = [step for step, after in zip(steps, [*steps[1:], ""], strict=True) if not after.startswith("?")]
        results = [int(step.partition("=")[2]) for step in standing]
        carries = [int(step.partition("=")[0][-1]) for step in standing]
        assert carries == [0, *(result // 10 for result in results[:-1])]
        digits = [results[-1], *(result % 10 for result in reversed(results[:-1]))]
        assert int(total.removeprefix("#")) == int("".join(map(str, digits)))


@pytest.mark.parametrize("digits", [2, 3, 4, 6])
def test_without_slips_every_trace_is_right(digits: int) -> None:
    rng = random.Random(2)
    for _ in range(200):
        question, answer = sample_problem(rng, digits)
        trace = write_trace(rng, question, error_rate=0.0, reconsider_rate=1.0)
        assert trace.rpartition("#")[2] == answer
        assert "?" not in trace
        assert len(STEP.findall(trace)) == digits


def test_slips_and_reconsiderations_come_at_their_rates() -> None:
    rng = random.Random(3)
    steps = [s for _ in range(2000) for s in STEP.findall(write_trace(rng, sample_problem(rng)[0], 0.4, 0.25))]
    first = [s for s in steps if not s[0]]
    wrong = [s for s in first if int(s[1]) + int(s[2]) + int(s[3]) != int(s[4])]
    assert len(first) == 8000
    assert len(wrong) / len(first) == pytest.approx(0.4, abs=0.02)  # 3.6 standard deviations
    assert (len(steps) - len(first)) / len(wrong) == pytest.approx(0.25, abs=0.03)  # 3.9


def test_the_split_is_by_text_alone() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926  # the published check value: the hash is the same on every machine
    assert is_held_out("123456789") == (0xCBF43926 % 10 == 0)


def test_train_and_held_out_are_disjoint_and_of_the_stated_sizes() -> None:
    rng = random.Random(4)
    train = {sample_problem(rng, 2)[0] for _ in range(150_000)}
    held_out = {sample_problem(rng, 2, held_out=True)[0] for _ in range(20_000)}
    assert train.isdisjoint(held_out)
    assert len(train | held_out) == 90 * 90  # all there are, each on one side
    assert len(held_out) / 8100 == pytest.approx(1 / HELD_OUT_ONE_IN, abs=0.02)


def test_problems_are_right_and_repeat_with_the_seed() -> None:
    problems = [sample_problem(random.Random(5), 3) for _ in range(2)]
    assert problems[0] == problems[1]
    question, answer = problems[0]
    a, b = question.removesuffix("=").split("+")
    assert len(a) == len(b) == 3
    assert int(a) + int(b) == int(answer)


def test_too_few_digits_are_refused() -> None:
    with pytest.raises(ValueError, match="digits is 1"):
        sample_problem(random.Random(0), 1)
