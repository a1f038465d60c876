import random
import zlib

import pytest

from dsrl.worlds import WORLDS, ArithmeticWorld, RetryWorld
from dsrl.worlds.held_out import HELD_OUT_ONE_IN, is_held_out


def test_the_split_is_by_text_alone() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926  # the published check value: the hash is the same on every machine
    assert is_held_out("123456789") == (0xCBF43926 % 10 == 0)


@pytest.mark.parametrize(
    ("world", "questions", "drawn"),
    [(ArithmeticWorld(digits=2), 90 * 90, 90_000), (RetryWorld(digits=3), 1000, 20_000)],
    ids=list(WORLDS),
)
def test_the_sides_are_disjoint_and_of_the_stated_sizes(world, questions: int, drawn: int) -> None:
    rng = random.Random(4)
    train = {world.sample_problem(rng)[0] for _ in range(drawn)}
    held_out = {world.sample_problem(rng, held_out=True)[0] for _ in range(drawn // 7)}
    assert train.isdisjoint(held_out)
    assert len(train | held_out) == questions  # all there are, each on one side
    assert len(held_out) / questions == pytest.approx(1 / HELD_OUT_ONE_IN, abs=0.02)
