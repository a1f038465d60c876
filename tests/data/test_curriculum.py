"""Questions that teach nothing are asked less often, and a checkpoint knows which."""

import pytest
import torch

from dsrl.config.schema import CurriculumConfig, ModelConfig
from dsrl.data import PromptEncoder, Row
from dsrl.data.curriculum import Curriculum
from dsrl.data.iteration_batches import IterationBatches
from dsrl.models.loading import load_tokenizer
from dsrl.types import Metric, Prompt

ENCODER = PromptEncoder(tokenizer=load_tokenizer(ModelConfig(name="tiny")))


def curriculum(always_right=0.0, always_wrong=0.0):
    return Curriculum(CurriculumConfig(always_right=always_right, always_wrong=always_wrong))


def note(own, answers):
    """answers: of each row, its rewards."""
    prompts = [Prompt(position=place, row=row, text="", token_ids=(1,)) for place, row in enumerate(answers)]
    own.update(prompts, torch.tensor(list(answers.values())))


def batches(own, count=10, batch=4, **fields):
    rows = [Row(question=f"{i}+1=", ground_truth=str(i + 1), data_source="sums") for i in range(count)]
    return IterationBatches(rows, ENCODER, batch=batch, seed=0, curriculum=own, **fields)


def test_verdicts_are_those_of_the_last_answers():
    own = curriculum()
    note(own, {3: [1.0, 1.0], 4: [0.0, 0.0], 5: [1.0, 0.0]})
    assert own.verdicts == {3: True, 4: False}
    note(own, {3: [0.0, 1.0], 4: [1.0, 1.0]})
    assert own.verdicts == {4: True}
    note(own, {5: [0.4, 0.5]})  # right is above a half
    assert own.verdicts == {4: True, 5: False}


@pytest.mark.parametrize(("chance", "over"), [(0.0, [False, True]), (0.29, [False, True]), (0.3, [True, True])])
def test_what_is_passed_over(chance, over):
    own = curriculum(always_right=0.3)
    note(own, {3: [1.0, 1.0], 4: [0.0, 0.0]})
    assert [own.passes_over(row, chance) for row in (3, 4)] == over
    assert own.passes_over(5, chance) is False and own.passed_over == sum(over)


def test_counts_for_the_metrics_start_over():
    own = curriculum()
    note(own, {3: [1.0, 1.0], 4: [0.0, 0.0], 5: [0.0, 0.0]})
    own.passes_over(3, 0.5)
    expected = {"passed_over": Metric.total(1), "always_right": Metric(1), "always_wrong": Metric(2)}
    assert own.metrics() == {f"curriculum/{name}": value for name, value in expected.items()}
    assert own.metrics()["curriculum/passed_over"] == Metric.total(0)


def test_without_weights_below_1_nothing_is_kept():
    own = curriculum(1.0, 1.0)
    note(own, {3: [1.0, 1.0]})
    assert (own.active, own.verdicts, own.metrics()) == (False, {}, {})


def test_its_state_is_plain_and_complete():
    own, fresh = curriculum(), curriculum()
    note(own, {3: [1.0, 1.0], 4: [0.0, 0.0]})
    assert own.state_dict() == {"always_right": [3], "always_wrong": [4]}
    fresh.load_state_dict(own.state_dict())
    assert fresh.verdicts == own.verdicts


def rows_of(data, iterations=20):
    return [prompt.row for iteration in range(iterations) for prompt in data[iteration]]


def test_dropped_questions_are_replaced_and_the_others_stay_in_place():
    own = curriculum()
    data = batches(own)
    before = rows_of(data)
    note(own, {0: [1.0, 1.0], 1: [0.0, 0.0]})
    after = rows_of(data)
    assert {0, 1} <= set(before) and set(after) == set(range(2, 10))
    assert all(old == new for old, new in zip(before, after, strict=True) if old not in (0, 1))
    assert rows_of(batches(own, shard=(1, 2))) == [row for i in range(20) for row in [p.row for p in data[i]][1::2]]


def test_a_weight_is_how_often_a_question_is_asked_in_its_turn():
    own = curriculum(always_right=0.25)
    turns = [i for i, row in enumerate(rows_of(batches(own), 1000)) if row == 0]
    note(own, {0: [1.0, 1.0]})
    rows = rows_of(batches(own), 1000)
    asked = sum(rows[i] == 0 for i in turns)
    assert len(turns) == 400 and 70 <= asked <= 150  # 0.25, and now and then as its own replacement


def test_where_nothing_is_left_something_is_asked_all_the_same():
    own = curriculum()
    note(own, {0: [1.0, 1.0], 1: [1.0, 1.0]})
    assert len(batches(own, count=2, batch=2)[0]) == 2


def test_a_replaced_question_has_a_position_of_its_own():
    data = batches(curriculum())
    (first, *_) = data[5]
    second = data.replacement_for(first, 5)
    third = data.replacement_for(second, 5)
    assert [prompt.position for prompt in (first, second, third)] == [0, 4, 8]
    assert data.replacement_for(first, 5) == second  # a function of what it replaces
    assert len({data.replacement_for(prompt, i).row for i in range(20) for prompt in data[i]}) == 10
