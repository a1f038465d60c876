import random

import pytest

from dsrl.errors import ConfigError
from dsrl.worlds import RetryWorld

RIGHT = "2+4=1+8=4+3=2+1=3x?4+4=3+8=1+3=4+1=0!#4"
"""Answers `4831=`: 2 + 16 is 18, not a multiple of 5; 4 + 16 is 20."""


class Drawn(random.Random):
    """Gives what it was made with, in turn."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = list(values)

    def random(self) -> float:
        return self.values.pop(0)

    def randrange(self, *bounds: int) -> int:  # type: ignore[override]
        return int(self.values.pop(0))


def test_a_trace_worked_out_by_hand() -> None:
    no_slip = [0.9] * 4
    drawn = Drawn(2, *no_slip, 0.1, 0.9, 4, *no_slip)  # guess, steps, try again, not the same guess, guess, steps
    assert RetryWorld().write_trace(drawn, "4831=", 0.5) == RIGHT
    assert drawn.values == []


def test_what_gives_up_says_so() -> None:
    assert RetryWorld().write_trace(Drawn(2, *[0.9] * 4, 0.6), "4831=", 0.5) == "2+4=1+8=4+3=2+1=3x#2"


def test_steps_that_do_not_restate_their_digit_give_the_result_alone() -> None:
    half, none = (RetryWorld(restated=part).write_trace(Drawn(4, *[0.9] * 4), "4831=", 0.0) for part in (0.5, 0.0))
    assert (half, none) == ("4+4=3+8=1=4=0!#4", "4=3=1=4=0!#4")


def test_a_slip_is_carried_on_and_may_pass_for_right() -> None:
    slips = Drawn(2, 0.9, 0.05, 1, 0.9, 0.05, 1)  # the second and the fourth step come to 1 more
    assert RetryWorld(error_rate=0.1).write_trace(slips, "4831=", 0.0) == "2+4=1+8=0+3=3+1=0!#2"


def test_the_answer_is_the_one_guess_that_completes_a_multiple() -> None:
    rng = random.Random(0)
    for guesses in (2, 5, 10):
        world = RetryWorld(guesses=guesses)
        for _ in range(100):
            question, answer = world.sample_problem(rng)
            total = sum(map(int, question.removesuffix("=")))
            assert [guess for guess in range(guesses) if (guess + total) % guesses == 0] == [int(answer)]


@pytest.mark.parametrize("world", [RetryWorld(), RetryWorld(digits=3, guesses=10, restated=0.4)])
def test_without_slips_what_the_text_says_is_so(world: RetryWorld) -> None:
    """An answer that ends with `!` is right, one that ends with `x` is wrong, and every retry is right in itself."""
    rng, passed = random.Random(1), 0
    for _ in range(500):
        question, answer = world.sample_problem(rng)
        trace = world.write_trace(rng, question, 0.7)
        assert world.is_right(trace, answer) == ("!#" in trace) != ("x#" in trace)
        assert world.retries(question, trace) == [True] * trace.count("?")
        assert len(trace) + 1 <= world.max_new_tokens  # a character is a token, and `<eos>` one more
        passed += "!#" in trace
    assert 0 < passed < 500


def test_rates_are_what_they_say() -> None:
    """Without retries one answer in `guesses` is right; a retry that repeats its guess is never right."""
    rng = random.Random(2)
    for repeat_rate, retry_rate, expected in [
        (0.0, 0.0, 0.2),
        (1.0, 1.0, 0.2),
        (0.0, 1.0, 1 - 0.8**6),
        (0.0, 0.5, 1 / 3),
    ]:
        world = RetryWorld(repeat_rate=repeat_rate)
        problems = [world.sample_problem(rng) for _ in range(3000)]
        right = sum(world.is_right(world.write_trace(rng, q, retry_rate), answer) for q, answer in problems)
        assert right / 3000 == pytest.approx(expected, abs=0.03)  # at least 3.5 standard deviations


def test_the_longest_answer_has_all_attempts() -> None:
    world = RetryWorld(repeat_rate=1.0)
    longest = world.write_trace(Drawn(2, *([*[0.9] * 4, 0.1, 0.1] * 6)), "4831=", 1.0)
    assert longest == "?".join(["2+4=1+8=4+3=2+1=3x"] * 6) + "#2"
    assert world.max_new_tokens == len(longest) + 1


@pytest.mark.parametrize(
    ("response", "right"),
    [
        (RIGHT, [True]),
        (RIGHT.partition("?")[0] + "#2", []),
        (RIGHT.replace("?4+4=3", "?4+5=3"), [False]),  # not the question's digit
        (RIGHT.replace("+1=0!", "+1=1!"), [False]),  # does not add up
        (RIGHT.replace("!", "x"), [False]),  # the check came to 0
        (RIGHT.replace("x?", "!?"), [True]),  # the first attempt is no retry
        (RIGHT.replace("+1=0!#4", "!#4"), [False]),  # a step is missing
        (RIGHT[:-6], [False]),  # cut off
        ("2+4=1x?", [False]),
        ("x??", [False, False]),
    ],
)
def test_a_retry_is_right_in_itself_where_its_check_is(response: str, right: list[bool]) -> None:
    assert RetryWorld().retries("4831=", response) == right


def test_values_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError) as error:
        RetryWorld(digits=1, guesses=1, attempts=0, restated=-1.0)
    assert str(error.value).splitlines() == [
        "digits=1: must be at least 2",
        "guesses=1: must be at least 2",
        "attempts=0: must be at least 1",
        "restated=-1.0: must be from 0 to 1",
    ]
    with pytest.raises(ConfigError, match="guesses=11: must be at most 10"):
        RetryWorld(guesses=11)
