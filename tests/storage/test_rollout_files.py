"""Recorded rollouts come back as they were, and what is damaged or not there is named."""

import math

import pandas
import pytest
import torch

from dsrl.errors import DSRLError
from dsrl.storage.rollout_files import (
    RecordHead,
    read_head,
    read_rollouts,
    record_path,
    recorded_files,
    write_rollouts,
)
from dsrl.types import Prompt, Rewards, Rollouts, SamplingParams

PARAMS = SamplingParams(responses_per_prompt=2, max_new_tokens=3, temperature=0.7, stop_token_ids=(5, 9), iteration=12)
HEAD = RecordHead(
    params=PARAMS, prompts_per_iteration=4, compute_dtype="bfloat16", weights_version=12, phase=2, objective="grpo"
)
PLAIN = Prompt(position=1, row=7, text="1+1=", token_ids=(1, 2), ground_truth="2", data_source="sums")
CHAT = Prompt(  # the second prompt that was asked in place 3
    position=7,
    row=8,
    text="<u>hi \N{ARABIC LETTER ALEF}\x00",
    token_ids=(4,),
    truncated=True,
    messages=({"role": "user", "content": "hi"},),
    ground_truth='["a", 1]',
    structured_ground_truth=["a", 1],
    extra={"split": "train", "level": 3},
)
ROLLOUTS = Rollouts(
    prompts=[PLAIN, CHAT],
    tokens=torch.tensor([[3, 5, 0], [3, 3, 3], [70000, 0, 0], [6, 9, 0]]),
    mask=torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0]]).bool(),
    logprobs=torch.tensor([[-0.1, -0.25, 0.0], [-1e-7, -3.3, -2.0], [-0.7, 0.0, 0.0], [-5.0, -0.125, 0.0]]),
    texts=["2", "222", "\N{LATIN SMALL LETTER E WITH ACUTE}", "x\n"],
    finish_reasons=["stop", "length", "length", "stop"],
)
REWARDS = Rewards(
    values=torch.tensor([[1.0, 0.1], [0.0, 0.5]]),
    components={"exact": torch.tensor([[1.0, 0.1], [math.nan, math.nan]]), "short": torch.zeros(2, 2)},
    extracted_answers=["2", None, "", "x"],
)
COLUMNS = {"advantage": torch.tensor([0.45, -0.45, -0.25, 0.25]), "kept": torch.tensor([False, True, True, False])}


@pytest.fixture
def folder(tmp_path):
    write_rollouts(record_path(tmp_path, 12, 0), HEAD, ROLLOUTS, REWARDS, COLUMNS)
    return tmp_path


def test_rollouts_and_rewards_come_back_as_they_were(folder):
    found = read_rollouts(recorded_files(folder)[12], [1, 3])
    assert found.prompts == [PLAIN, CHAT]
    for name in ("tokens", "mask", "logprobs"):
        assert torch.equal(getattr(found, name), getattr(ROLLOUTS, name)), name
    assert (found.texts, found.finish_reasons) == (ROLLOUTS.texts, ROLLOUTS.finish_reasons)
    assert torch.equal(found.rewards.values, REWARDS.values)
    assert found.rewards.extracted_answers == REWARDS.extracted_answers
    for name, values in REWARDS.components.items():
        assert torch.equal(found.rewards.components[name].nan_to_num(9), values.nan_to_num(9))


def test_groups_come_in_the_order_that_is_asked_for_and_from_the_files_of_all_ranks(folder):
    other = Prompt(position=2, text="other", token_ids=(1,))
    alone = Rollouts(
        prompts=[other],
        tokens=torch.tensor([[3], [4]]),
        mask=torch.ones(2, 1).bool(),
        logprobs=torch.zeros(2, 1),
        texts=["a", "b"],
        finish_reasons=["length"] * 2,
    )
    rewards = Rewards(values=torch.zeros(1, 2))
    write_rollouts(record_path(folder, 12, 1), HEAD, alone, rewards, {})
    found = read_rollouts(recorded_files(folder)[12], [3, 2, 1])
    assert [prompt.text for prompt in found.prompts] == [CHAT.text, "other", "1+1="]
    assert found.texts == [ROLLOUTS.texts[2], "x\n", "a", "b", "2", "222"]
    assert found.tokens.tolist()[2] == [3, 0, 0]


def test_the_head_says_what_holds_for_all(folder):
    assert read_head(record_path(folder, 12, 0)) == HEAD


def test_anyone_can_read_them(folder):
    table = pandas.read_parquet(folder)
    assert table.reward.tolist() == pytest.approx([1.0, 0.1, 0.0, 0.5])
    assert table.prompt_number.tolist() == [1, 1, 3, 3] and table.position.tolist() == [1, 1, 7, 7]
    assert table.question.tolist() == [7, 7, 8, 8] and table.response_number.tolist() == [0, 1, 0, 1]
    assert [list(tokens) for tokens in table.tokens] == [[3, 5], [3, 3, 3], [70000], [6, 9]]
    assert set(table.iteration) == {12} and set(table.weights_version) == {12} and set(table.phase) == {2}
    assert table.kept.tolist() == [False, True, True, False]


def test_a_rank_without_prompts_writes_a_file_without_rows(folder):
    nothing = Rollouts(
        prompts=[],
        tokens=torch.zeros(0, 0).long(),
        mask=torch.zeros(0, 0).bool(),
        logprobs=torch.zeros(0, 0),
        texts=[],
        finish_reasons=[],
    )
    empty = {"advantage": torch.zeros(0), "kept": torch.zeros(0).bool()}
    write_rollouts(record_path(folder, 12, 1), HEAD, nothing, Rewards(values=torch.zeros(0, 0)), empty)
    assert len(recorded_files(folder)[12]) == 2
    assert read_rollouts(recorded_files(folder)[12], [1]).texts == ["2", "222"]
    none = read_rollouts(recorded_files(folder)[12], [])  # as on a rank without prompts
    assert (none.prompts, none.texts, none.rewards.values.shape) == ([], [], (0, 0))
    assert none.tokens.dtype == torch.long and none.logprobs.dtype == torch.float32 and none.mask.shape == (0, 0)


def test_iterations_are_listed_in_order_and_foreign_files_left_alone(folder):
    for name in ("iteration000002-rank1.parquet", "iteration000002-rank0.parquet", "other.parquet", "notes.txt"):
        (folder / name).touch()
    assert [(iteration, len(paths)) for iteration, paths in recorded_files(folder).items()] == [(2, 2), (12, 1)]


@pytest.mark.parametrize("damage", [b"", b"PAR1 no", None], ids=["empty", "foreign", "cut"])
def test_a_damaged_file_is_named(folder, damage):
    path = record_path(folder, 12, 0)
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    for read in (read_head, lambda path: read_rollouts([path], [1])):
        with pytest.raises(DSRLError, match=r"iteration000012-rank0.parquet: not a readable record"):
            read(path)


def test_a_file_of_a_later_format_is_refused(folder, monkeypatch):
    monkeypatch.setattr("dsrl.storage.rollout_files.FORMAT", 0)
    with pytest.raises(DSRLError, match="in a format that this version cannot read"):
        read_head(record_path(folder, 12, 0))


def test_a_group_that_is_not_there_is_named(folder):
    with pytest.raises(DSRLError, match=r"responses to prompts \[0\] are missing"):
        read_rollouts(recorded_files(folder)[12], [0, 1])
