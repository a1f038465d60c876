"""Keys of version 0.1."""

import copy
from pathlib import Path

import pytest

from dsrl.config.command_line import search_path
from dsrl.config.compose import compose
from dsrl.config.renamed import RENAMED, in_todays_words
from dsrl.errors import ConfigError
from dsrl.runs.resume import check_continues


def test_what_an_earlier_version_wrote():
    saved = {"refill": 2, "update": {"epochs": 1, "max_tokens": 9}, "sampler": {"name": "vllm", "sleep": 1}, "seed": 0}
    assert in_todays_words(saved) == {
        "dynamic_sampling": 2,
        "update": {"epochs": 1, "micro_batch_tokens": 9},
        "sampler": {"name": "vllm", "sleep_level": 1},
        "seed": 0,
    }
    assert saved["update"] == {"epochs": 1, "max_tokens": 9}
    counted = {"name": "pattern", "classes": {"reflection": "[?]"}}
    saved = {"model": {"name": "tiny", "reflection": "[?]"}}
    assert in_todays_words(saved) == {"model": {"name": "tiny", "thoughts": counted}, "thoughts": counted}
    assert saved == {"model": {"name": "tiny", "reflection": "[?]"}}
    assert in_todays_words({"sampler": {"name": "hf", "batch_size": 512}}) == {"sampler": {"name": "hf"}}


def test_a_run_goes_on_that_knew_neither_thoughts_nor_token_weights():
    """It counts as it did, unless it is told otherwise: that changes nothing else."""
    config = compose(["objective=nsr_prerl", "+phase2=grpo", "thoughts=words"])
    saved = copy.deepcopy(config.resolved)
    del saved["thoughts"], saved["model"]["thoughts"]
    saved["model"]["reflection"] = "[?]"
    for holder in (saved, saved["phase2"]):
        del holder["objective"]["token_weight"]
    phases = {"PhaseScheduler": {"entered": 2, "starts": [0, 5]}}
    checkpoint = {"dsrl": {"config": saved, "iterations_done": 7}, "callbacks": phases}
    check_continues(config, Path("x.ckpt"), checkpoint)
    other = compose(["objective=nsr_prerl", "+phase2=grpo", "phase2.objective.token_weight=known"])
    with pytest.raises(
        ConfigError, match=r"phase2\.objective\.token_weight: 'all' in the checkpoint, {'name': 'known'"
    ):
        check_continues(other, Path("x.ckpt"), checkpoint)


@pytest.mark.parametrize(
    "saved", [{"sampler": "hf"}, {"sampler": {"name": "mine", "sleep": 1, "batch_size": 2}}, {"update": None}, {}]
)
def test_what_is_left_as_it_is(saved):
    assert in_todays_words(saved) == saved


def test_new_keys_exist():
    resolved = compose([]).resolved
    for key in RENAMED.values():
        section, _, last = key.rpartition(".")
        assert section == "sampler" or last in (resolved[section] if section else resolved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("refill: 2", "experiment=mine: refill is now called dynamic_sampling"),
        ("update: {max_tokens: 9}", "experiment=mine: update.max_tokens is now called update.micro_batch_tokens"),
        ("seeed: 2", "experiment=mine: unknown key 'seeed'. Did you mean 'seed'?"),
        ("iterations: x", "experiment=mine: iterations: Value 'x' of type 'str' could not be converted to Integer"),
        ("trainer: {max_epochs: 2}", "experiment=mine: unknown key 'trainer.max_epochs': iterations says how long"),
    ],
)
def test_a_file_of_an_earlier_version(text, message, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    with pytest.raises(ConfigError) as refused:
        compose([search_path(str(tmp_path)), "experiment=mine"])
    assert str(refused.value).startswith(message)


def test_a_key_of_data_that_is_newer_has_its_default():
    data = {"name": "questions", "train": "a.jsonl"}
    assert in_todays_words({"data": data}) == {"data": {**data, "last_turn": "auto"}}
    assert in_todays_words({"data": {**data, "last_turn": "drop"}})["data"]["last_turn"] == "drop"
    assert in_todays_words({"data": {"name": "arithmetic"}}) == {"data": {"name": "arithmetic"}}
