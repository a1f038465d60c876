"""Everything of a model is loaded from the revision that was asked for, out of a cache of the hub with two of them."""

import json

import pytest
import torch
from huggingface_hub import constants

from dsrl.config.schema import LoraConfig, ModelConfig
from dsrl.models.loading import load_architecture, load_model, load_tokenizer
from dsrl.models.lora import write_adapter
from dsrl.models.sharded_loading import load_parts, model_without_weights

NAME, MAIN, OTHER = "somebody/tiny", "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The embedded model as `main`; in the other revision all files differ."""
    repository = tmp_path / "models--somebody--tiny"
    for number, revision in enumerate((MAIN, OTHER)):
        model, tokenizer = load_model("tiny"), load_tokenizer("tiny")
        model.generation_config.eos_token_id = 2 + number
        model.config.rope_parameters["rope_theta"] += number
        tokenizer.model_max_length = 100 + number
        with torch.no_grad():
            model.model.norm.weight.fill_(1 + number)
        for made in (model, tokenizer):
            made.save_pretrained(repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(MAIN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("number", [0, 1])
def test_weights_and_settings_and_tokenizer_are_of_the_revision(number, hub):
    config = ModelConfig(name=NAME, revision=OTHER if number else None)
    assert load_tokenizer(config).model_max_length == 100 + number
    theta = load_architecture(ModelConfig(name="tiny")).rope_parameters["rope_theta"]
    assert load_architecture(config).rope_parameters["rope_theta"] == theta + number
    parts = model_without_weights(config)
    load_parts(config, [parts], torch.device("cpu"))
    for model in (load_model(config), parts):
        assert model.generation_config.eos_token_id == 2 + number
        assert model.model.norm.weight.tolist() == [1 + number] * model.config.hidden_size


def test_an_adapter_names_the_revision_that_it_was_trained_on(tmp_path):
    pytest.importorskip("peft")
    write_adapter(tmp_path, ModelConfig(name=NAME, revision=OTHER, lora=LoraConfig(rank=2)), [])
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (written["base_model_name_or_path"], written["revision"]) == (NAME, OTHER)
