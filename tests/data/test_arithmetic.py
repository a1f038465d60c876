"""Additions without a file."""

import pytest

from dsrl import build
from dsrl.worlds import is_held_out


def source(**fields):
    return build("data", {"name": "arithmetic", **fields})


def questions(rows):
    return [row.question for row in rows]


@pytest.mark.parametrize("digits", [2, 4])
def test_training_and_validation_never_meet(digits):
    made = source(train_size=2000, val_size=300, digits=digits)
    train, val = made.train_rows(), made.val_sets()["arithmetic"]
    assert (len(train), len(val)) == (2000, 300)
    assert set(questions(train)).isdisjoint(questions(val))
    assert not any(map(is_held_out, questions(train))) and all(map(is_held_out, questions(val)))


def test_they_never_meet_over_different_seeds_either():
    train = source(train_size=2000, problem_seed=1).train_rows()
    val = source(val_size=300, problem_seed=2).val_sets()["arithmetic"]
    assert set(questions(train)).isdisjoint(questions(val))


def test_answers_are_right():
    for row in source(train_size=50).train_rows():
        first, second = row.question.removesuffix("=").split("+")
        assert len(first) == len(second) == 4
        assert row.ground_truth == str(int(first) + int(second)) and row.data_source == "arithmetic"


def test_questions_depend_on_the_problem_seed_alone():
    assert source(train_size=20).train_rows() == source(train_size=20).train_rows()
    assert source(train_size=10).train_rows() == source(train_size=20).train_rows()[:10]
    assert source(train_size=20).train_rows() != source(train_size=20, problem_seed=1).train_rows()
    assert questions(source(train_size=2).train_rows()) == ["1490+4733=", "8065+2986="]


def test_no_validation():
    assert source(val_size=0).val_sets() == {}


def test_sizes_that_make_no_sense():
    assert source().check() == []
    assert source(digits=1, train_size=0, val_size=-1, max_prompt_tokens=0).check() == [
        "data.max_prompt_tokens must be at least 1, not 0",
        "data.digits=1: must be at least 2",
        "data.train_size=0: must be at least 1",
        "data.val_size=-1: must be at least 0",
    ]
