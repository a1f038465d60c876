"""Procedural tasks with a scorer each."""

import json
from collections import Counter

import pytest

from dsrl import build
from dsrl.data.reasoning_gym import draw_in_process
from dsrl.data.reasoning_gym_entries import draw_entries
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
    assert score(row.ground_truth, given["entry"]) == 1.0 and score("x", given["entry"]) < 1.0


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


ONE_DIGIT = {"chain_sum": {"min_digits": 1, "max_digits": 1, "min_terms": 2, "max_terms": 2}}


def test_validation_is_never_trained_on_whatever_the_sizes_seeds_and_entries():
    train = source(tasks=ONE_DIGIT, train_size=500, val_size=5, problem_seed=1).train_rows()
    held_out = [row.question for row in source(tasks=ONE_DIGIT, val_size=30).val_sets()["chain_sum"]]
    assert len(train) == 500 and len(set(held_out)) == 30 and set(held_out).isdisjoint(row.question for row in train)


def test_few_different_questions_are_said_to_be_few(caplog):
    (rows,) = source(tasks=ONE_DIGIT, val_size=5000).val_sets().values()
    assert len(rows) == len({row.question for row in rows}) and 30 < len(rows) < 60  # a quarter of 162
    assert f"chain_sum has {len(rows)} different questions to validate on, not data.val_size=5000" in caplog.text


def test_sizes_are_kept_and_shared_out_by_weight():
    mix = source(tasks={**ONE_DIGIT, "leg_counting": {}}, train_size=1000)
    assert set(Counter(row.data_source for row in mix.train_rows()).values()) == {500}
    assert len(source(tasks=["coin_flip", "gcd", "leg_counting"], train_size=4).train_rows()) == 4
    with pytest.raises(ConfigError, match="data.tasks.leg_counting.weight=1: less than one of train_size=2"):
        source(tasks=["coin_flip", "gcd", "leg_counting"], train_size=2).train_rows()


def test_an_entry_without_an_answer_is_still_scored_by_its_task():
    (row, *_) = source(tasks="rubiks_cube").train_rows()
    assert row.ground_truth == "" and row.extra["extra_info"]["entry"]["answer"] is None


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
        (
            {"tasks": {"gcd": {"seed": 3}}},
            "data.tasks.gcd.seed: not a parameter of a task; data.problem_seed says which questions",
        ),
        ({"tasks": 5}, "data.tasks=5: must be a name, a list of names, or a mapping of names"),
        ({"tasks": {"gcd": {"weight": float("inf")}}}, "data.tasks.gcd.weight=inf: must be a number above 0"),
        ({"tasks": "chain_sum", "train_size": 0}, "data.train_size=0: must be at least 1"),
    ],
)
def test_what_cannot_be(fields, message):
    (problem,) = source(**fields).check()
    assert message in problem


def test_a_task_with_a_single_question_cannot_be_split(monkeypatch):
    entry = {"question": "What is 1 + 1?", "answer": "2", "metadata": {}}
    monkeypatch.setattr(reasoning_gym, "create_dataset", lambda *_, **__: [entry] * 256)
    sides = [draw_entries("gcd", {}, seed=0, size=2, validation=validation) for validation in (False, True)]
    assert sorted(map(len, sides)) in ([0, 1], [0, 2])  # validation holds it once


@pytest.mark.parametrize(
    ("side", "message"),
    [("train_rows", "all of its questions belong to validation"), ("val_sets", "has no question to validate on")],
)
def test_a_side_without_questions_is_an_error(side, message, monkeypatch):
    monkeypatch.setattr("dsrl.data.reasoning_gym.draw_in_process", lambda requests: [[] for _ in requests])
    with pytest.raises(ConfigError, match=f"reasoning_gym task gcd.*{message}"):
        getattr(source(tasks="gcd"), side)()


def test_what_goes_wrong_in_drawing_is_told():
    with pytest.raises(ConfigError, match="reasoning_gym could not draw questions of gcd: .*no_such"):
        draw_in_process([("gcd", {"no_such": 1}, 0, 1, False)])


def test_questions_are_the_same_in_any_process(monkeypatch):
    """Also of tasks that go through a set of texts."""
    found = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        found.append(source(tasks=["ransom_note", "word_ladder"]).train_rows())
    assert found[0] == found[1]
