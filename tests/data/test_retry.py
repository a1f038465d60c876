"""Digits that are found by trial, without a file. What all worlds' sources share is tested in test_arithmetic.py."""

from dsrl import build
from dsrl.worlds import is_held_out


def source(**fields):
    return build("data", {"name": "retry", **fields})


def test_questions_and_answers_are_those_of_the_world():
    made = source(train_size=300, val_size=100)
    train, val = made.train_rows(), made.val_sets()["retry"]
    assert (len(train), len(val)) == (300, 100)
    for row in [*train, *val]:
        digits = row.question.removesuffix("=")
        assert len(digits) == 4 and row.data_source == "retry"
        assert (int(row.ground_truth) + sum(map(int, digits))) % 5 == 0 and 0 <= int(row.ground_truth) < 5
    assert not any(is_held_out(row.question) for row in train) and all(is_held_out(row.question) for row in val)


def test_worlds_of_other_sizes():
    (row,) = source(train_size=1, digits=6, guesses=10).train_rows()
    assert len(row.question) == 7
    assert (int(row.ground_truth) + sum(map(int, row.question[:-1]))) % 10 == 0


def test_values_that_make_no_sense():
    assert source().check() == []
    assert source(digits=1, guesses=1, val_size=-1).check() == [
        "data.digits=1: must be at least 2",
        "data.guesses=1: must be at least 2",
        "data.val_size=-1: must be at least 0",
    ]
    assert source(guesses=11).check() == ["data.guesses=11: must be at most 10, since a guess is a digit"]
