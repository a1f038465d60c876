"""The embedded models, as they are shipped."""

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from dsrl.models.loading import EMBEDDED
from dsrl.worlds import ArithmeticWorld, RetryWorld
from dsrl.worlds.admission import Answering, answering
from dsrl.worlds.answers import draw_answers
from dsrl.worlds.small_model import build_tokenizer
from dsrl.worlds.world_file import load_world

TEXT = "537+920=7+0+0=7;?3+2+0=5;5+9+0=14;#1457"


@pytest.fixture(scope="module", params=list(EMBEDDED))
def folder(request: pytest.FixtureRequest) -> Path:
    return EMBEDDED[request.param]


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.fixture(scope="module")
def model(folder: Path) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)


def test_a_character_is_a_token_and_comes_back(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer(TEXT)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert len(ids) == 1 + len(TEXT)
    assert tokenizer.convert_ids_to_tokens(ids[1:9]) == list("537+920=")
    assert tokenizer.decode(ids) == f"<bos>{TEXT}"
    assert tokenizer.decode(ids, skip_special_tokens=True) == TEXT


@pytest.mark.parametrize("text", ["What is 2 + 2 ?", " a  b\n\nc ", "~!'s n't ."])
def test_other_text_survives_with_its_spaces(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_character_outside_ascii_is_unknown(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.convert_ids_to_tokens(tokenizer("1é2")["input_ids"]) == ["<bos>", "1", "<unk>", "2"]


def test_special_tokens_and_no_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("<pad>", "<bos>", "<eos>")
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer("1<eos>")["input_ids"][-1] == tokenizer.eos_token_id
    assert tokenizer.chat_template is None


def test_the_shipped_tokenizer_is_the_one_the_script_builds(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()


def test_the_model_is_small_tied_and_of_head_dimension_32(folder: Path, model: LlamaForCausalLM) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["hidden_size"] / config["num_attention_heads"] == config["head_dim"] == 32
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3 * 2**20


def test_generation_samples_from_the_whole_distribution(model: LlamaForCausalLM) -> None:
    generation = model.generation_config
    assert (generation.do_sample, generation.temperature, generation.top_k, generation.top_p) == (True, 1.0, 0, 1.0)
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (1, 2, 0)


def test_each_says_of_which_world_it_is() -> None:
    assert load_world(EMBEDDED["tiny"]) == ArithmeticWorld()
    assert load_world(EMBEDDED["retry"]) == RetryWorld()


def answering_of(name: str, bias: float = 0.0) -> Answering:
    """What the model's answers to 150 held-out problems are like, seed 0."""
    world, rng = load_world(EMBEDDED[name]), random.Random(0)
    problems = [world.sample_problem(rng, held_out=True) for _ in range(150)]
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED[name], local_files_only=True)
    answers = draw_answers(model, build_tokenizer(), problems, world.max_new_tokens, bias=bias)
    return answering(world, answers, bias)


def test_tiny_is_right_now_and_then_and_reconsiders() -> None:
    """What there is for RL to gain, and to prune."""
    found = answering_of("tiny")
    assert 0.18 <= found.right.share <= 0.36  # .267 in 1,000, and 2.5 standard deviations
    assert 0.2 <= found.retries <= 0.45
    assert 40 <= found.tokens <= 50


def test_retry_seldom_tries_again_and_is_right_twice_as_often_where_it_must() -> None:
    """It can do it, every retry is right in itself, and it pays: what admitted this world."""
    free, forced = answering_of("retry"), answering_of("retry", bias=4.0)
    assert 0.12 <= free.right.share <= 0.34
    assert free.retries <= 0.35 and forced.retries > 1.5
    assert forced.right.share > free.right.share + 0.2
    assert all(share.count > 40 and share.share > 0.88 for share in forced.in_themselves)
