"""Procedural tasks with a scorer each."""

import json
from collections import Counter

import pytest

from dsrl import build
from dsrl.errors import ConfigError

reasoning_gym = pytest.importorskip("reasoning_gym")


def source(**fields):
    return build("data", {"name": "reasoning_gym", "train_size": 20, "val_size": 5, **fields})


def test_rows_carry_what_the_tasks_own_scorer_needs():
    (row, *_) = source(tasks="chain_sum").train_rows()
    assert row.data_source == "reasoning_gym/chain_sum" and set(row.extra) == {"extra_info"}
    given = json.loads(json.dumps(row.extra["extra_info"]))
    assert given["task"] == "chain_sum" and given["entry"]["question"] == row.question
    score = reasoning_gym.get_score_answer_fn(given["task"])
    assert score(row.answer, given["entry"]) == 1.0 and score("x", given["entry"]) < 1.0


def test_weights_and_parameters_of_each_task():
    mix = source(tasks={"chain_sum": {"weight": 3, "min_terms": 2, "max_terms": 2}, "leg_counting": None})
    assert mix.check() == []
    rows = mix.train_rows()
    assert Counter(row.data_source for row in rows) == {"reasoning_gym/chain_sum": 15, "reasoning_gym/leg_counting": 5}
    assert {row.extra["extra_info"]["entry"]["metadata"]["num_terms"] for row in rows[:15]} == {2}
    assert {name: len(held) for name, held in mix.val_sets().items()} == {"chain_sum": 5, "leg_counting": 5}


def test_questions_follow_from_the_seed_and_training_sees_none_of_validation():
    first, again, other = (source(tasks=["coin_flip"], train_size=200, problem_seed=seed) for seed in (0, 0, 1))
    assert first.train_rows() == again.train_rows() != other.train_rows()
    easy = source(
        tasks={"chain_sum": {"min_digits": 1, "max_digits": 1, "min_terms": 2, "max_terms": 2}}, train_size=300
    )
    held_out = {row.question for row in easy.val_sets()["chain_sum"]}
    assert len(easy.train_rows()) < 300 and held_out.isdisjoint(row.question for row in easy.train_rows())


def test_an_entry_without_an_answer_is_still_scored_by_its_task():
    (row, *_) = source(tasks="rubiks_cube").train_rows()
    assert row.answer == "" and row.extra["extra_info"]["entry"]["answer"] is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "data.tasks is not set: choose some of ab, acre,"),
        ({"tasks": ["chain_sums"]}, "reasoning_gym has no task 'chain_sums'. Did you mean 'chain_sum'?"),
        ({"tasks": "composite"}, "reasoning_gym has no task 'composite'"),
        ({"tasks": {"chain_sum": 3}}, "data.tasks.chain_sum=3: must be a mapping of parameters, or empty"),
        ({"tasks": {"chain_sum": {"weight": 0}}}, "data.tasks.chain_sum.weight=0: must be a number above 0"),
        (
            {"tasks": {"chain_sum": {"max_term": 3}}},
            "data.tasks.chain_sum.max_term: no such parameter; there are min_terms",
        ),
        ({"tasks": {"chain_sum": {"min_terms": 9}}}, "data.tasks.chain_sum={'min_terms': 9}: "),
        ({"tasks": "chain_sum", "train_size": 0}, "data.train_size=0: must be at least 1"),
    ],
)
def test_what_cannot_be(fields, message):
    (problem,) = source(**fields).check()
    assert message in problem


def test_a_task_whose_questions_are_all_in_validation():
    few = {"chain_sum": {"min_digits": 1, "max_digits": 1, "min_terms": 2, "max_terms": 2}}
    with pytest.raises(ConfigError, match="task chain_sum: validation holds all of its questions; lower val_size"):
        source(tasks=few, train_size=5, val_size=5000).train_rows()
