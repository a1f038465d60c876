import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from dsrl.data.arithmetic_world import is_held_out
from dsrl.models import pretrain_tiny
from dsrl.models.pretrain_tiny import build_tokenizer, measure, pretrain, write_text

TINY = Path(pretrain_tiny.__file__).parent / "tiny"
TEXT = "537+920=7+0+0=7;?3+2+0=5;5+9+0=14;#1457"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TINY, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(TINY, local_files_only=True)


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


def test_the_model_is_small_tied_and_of_head_dimension_32(model: LlamaForCausalLM) -> None:
    config = json.loads((TINY / "config.json").read_text())
    assert config["hidden_size"] / config["num_attention_heads"] == config["head_dim"] == 32
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(file.stat().st_size for file in TINY.iterdir()) < 4 * 2**20


def test_generation_samples_from_the_whole_distribution(model: LlamaForCausalLM) -> None:
    generation = model.generation_config
    assert (generation.do_sample, generation.temperature, generation.top_k, generation.top_p) == (True, 1.0, 0, 1.0)
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (1, 2, 0)


def test_the_base_is_right_now_and_then_and_reconsiders(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """64 held-out problems, seed 0: what there is for RL to gain, and to prune."""
    right, reconsidered, tokens = measure(model, tokenizer, problems=64, seed=0)
    assert 0.2 <= right <= 0.4
    assert 0.2 <= reconsidered <= 0.8
    assert 38 <= tokens <= 60


def test_training_text_has_no_held_out_question_and_a_part_has_none() -> None:
    rng = random.Random(0)
    text = [write_text(rng).removesuffix("<eos>") for _ in range(4000)]
    questions = [line[: line.index("=") + 1] for line in text if line.index("=") > 5]  # a step's first `=` is at 5
    assert not any(map(is_held_out, questions))
    assert all(len(question) == 10 for question in questions)
    assert len(questions) / len(text) == pytest.approx(0.7, abs=0.03)  # 4 standard deviations


def test_pretraining_gives_the_same_bits_again() -> None:
    (first, _), (second, _), (other, _) = (pretrain(3, seed, batch_size=8, lr=1e-3) for seed in (0, 0, 1))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
