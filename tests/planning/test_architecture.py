"""Architectures without weights: the built-in ones have the published sizes."""

import json

import pytest

from dsrl.config.schema import LoraConfig, ModelConfig
from dsrl.errors import ConfigError
from dsrl.planning.architecture import BUILT_IN, Shapes, architecture_of

PUBLISHED = {
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-Math-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-Math-7B": 7_615_616_512,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7_615_616_512,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-3-1b": 999_885_952,
}


def shapes(name, **settings):
    model = ModelConfig(name=name, **settings)
    return Shapes.of(architecture_of(model), model)


def test_all_that_are_built_in_are_checked():
    assert json.loads(BUILT_IN.read_text()).keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_that_were_published(name):
    assert shapes(name).parameters == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("Qwen/Qwen3-1.7B-Base", "Qwen/Qwen3-1.7B"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B"),
        ("google/gemma-3-1b-it", "google/gemma-3-1b"),
        ("smollm2", "HuggingFaceTB/SmolLM2-135M"),
    ],
)
def test_how_a_model_was_trained_is_nothing_of_its_shape(name, like):
    assert architecture_of(ModelConfig(name=name)).to_dict() == architecture_of(ModelConfig(name=like)).to_dict()


def test_later_models_have_more_positions():
    found, other = (architecture_of(ModelConfig(name=f"Qwen/Qwen3-4B{end}")) for end in ("-Instruct-2507", ""))
    assert (found.max_position_embeddings, other.max_position_embeddings) == (262_144, 40_960)
    assert found.num_hidden_layers == other.num_hidden_layers


def test_a_folder_with_a_configuration_alone(tmp_path):
    architecture_of(ModelConfig(name="tiny")).save_pretrained(tmp_path)
    assert shapes(str(tmp_path)) == shapes("tiny")


def test_tiny_by_hand():
    tiny = shapes("tiny")
    # 100 tokens of 128 numbers, tied; in 3 layers 4 matrices of attention and 3 of 128 x 256; 7 norms
    block = 4 * 128 * 128 + 3 * 128 * 256
    assert tiny.products == 3 * block
    assert tiny.parameters == tiny.trained == 100 * 128 + 3 * block + 7 * 128
    assert (tiny.vocabulary, tiny.layers, tiny.heads, tiny.key_heads, tiny.head_size) == (100, 3, 4, 4, 32)
    assert tiny.largest == 128 * 256


def test_adapters_alone_are_trained():
    pytest.importorskip("peft")
    tiny = shapes("tiny", lora=LoraConfig(rank=2))
    # in a block 4 + 3 matrices, each with 2 rows and 2 columns beside it
    assert tiny.trained == tiny.trained_products == 3 * 2 * (4 * (128 + 128) + 3 * (128 + 256))
    assert tiny.parameters == shapes("tiny").parameters + tiny.trained


def test_a_name_that_is_nowhere(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"./nowhere: no config.json.*\n  without its weights are known: a folder"):
        architecture_of(ModelConfig(name="./nowhere"))
