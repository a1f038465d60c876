"""A file that holds a head of its own, and a configuration that ties it to the embeddings: one of them is wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from dsrl.config.schema import ModelConfig
from dsrl.errors import ConfigError
from dsrl.models.loading import EMBEDDED, load_model
from dsrl.models.sharded_loading import load_parts, model_without_weights

torch.set_num_threads(1)
IDS = torch.arange(3, 13)[None]


@pytest.fixture
def folder(tmp_path):
    """The embedded model, whose head is tied, with another head beside it."""
    AutoModelForCausalLM.from_pretrained(EMBEDDED["tiny"]).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(EMBEDDED["tiny"]).save_pretrained(tmp_path)
    return tmp_path


def with_head(folder, change):
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = change(weights["model.embed_tokens.weight"].clone())
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return ModelConfig(name=str(folder))


def load_sharded(config):
    load_parts(config, models := [model_without_weights(config)], torch.device("cpu"))
    return models[0]


LOADERS = pytest.mark.parametrize("load", [load_model, load_sharded])


@LOADERS
def test_another_head_is_refused_and_used_once_the_configuration_agrees(folder, load):
    config = with_head(folder, torch.neg)
    with pytest.raises(ConfigError, match=r"its file holds lm_head.weight with other values than model.embed_tokens"):
        load(config)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tie_word_embeddings": False}))
    tied = AutoModelForCausalLM.from_pretrained(EMBEDDED["tiny"])
    torch.testing.assert_close(load(config).eval()(IDS).logits, -tied.eval()(IDS).logits)


@LOADERS
def test_the_same_head_twice_is_one(folder, load):
    model = load(with_head(folder, torch.clone))
    assert model.lm_head.weight is model.model.embed_tokens.weight
