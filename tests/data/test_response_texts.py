"""Token ids back to text: what was written, and not what frames a sequence."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dsrl.data import PromptEncoder
from dsrl.registry import build
from dsrl.samplers.hf import HFSampler
from dsrl.types import Prompt

TAGS = ["<think>", "</think>", "<answer>", "</answer>", "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "[TOOL]"]
FRAME = ["<bos>", "<eos>", "<pad>", "<eot>"]


def tokenizer_of(special: bool) -> PreTrainedTokenizerFast:
    """A token a character; tags are special tokens, or added tokens that are not, as Qwen3's <think>."""
    vocabulary = {token: index for index, token in enumerate(["?", *map(chr, range(32, 127)), "é", *FRAME, *TAGS])}
    tokenizer = Tokenizer(models.WordLevel({**vocabulary, "?": vocabulary["?"]}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in FRAME])
    tokenizer.add_tokens([AddedToken(tag, special=special) for tag in TAGS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")


WRITTEN = [
    ("<think>1+1</think><answer>2</answer><eos>", "<think>1+1</think><answer>2</answer>"),
    ("<think>1+1</think><answer>2</answer>", "<think>1+1</think><answer>2</answer>"),
    ("<think></think>4<eos>", "<think></think>4"),
    ("a<eos>b<eos>", "ab"),
    ("<answer>2<eos></answer>", "<answer>2</answer>"),
    ("a<pad>b<eos><pad><pad>", "ab"),
    ("<bos>a<eos>", "a"),
    ("<|channel|>analysis<|message|>1+1<|end|><eos>", "<|channel|>analysis<|message|>1+1<|end|>"),
    (
        "<|channel|>analysis<|message|>so 2<|end|><|start|>assistant<|channel|>final<|message|>2<eos>",
        "<|channel|>analysis<|message|>so 2<|end|><|start|>assistant<|channel|>final<|message|>2",
    ),
    ("[TOOL]f(1)[TOOL]", "[TOOL]f(1)[TOOL]"),
    (" <think> a  b </think> .<eos>", " <think> a  b </think> ."),
    ("</answer></answer>é<eos>", "</answer></answer>é"),
    ("<eos>", ""),
    ("", ""),
]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(("response", "text"), WRITTEN)
def test_a_text_is_what_was_written(response: str, text: str, special: bool) -> None:
    tokenizer = tokenizer_of(special)
    ids = tokenizer(response, add_special_tokens=False).input_ids
    assert PromptEncoder(tokenizer=tokenizer).decode([ids, []]) == [text, ""]


def test_spaces_before_punctuation_stay_whatever_the_tokenizer_asks_for() -> None:
    """transformers would make "a ,b != c" of the code that was written."""
    tokenizer, code = tokenizer_of(special=False), "a , b != c ? ' x ' : d . n't"
    tokenizer.clean_up_tokenization_spaces = True
    ids = tokenizer(code, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) != code
    assert PromptEncoder(tokenizer=tokenizer).decode([ids]) == [code]


@pytest.mark.parametrize(("listed", "text"), [(True, "<answer>2</answer>"), (False, "<answer>2</answer><eot>")])
def test_the_models_own_end_tokens_are_no_text(listed: bool, text: str) -> None:
    """As <|eot_id|> of Llama 3, which its generation config names beside the tokenizer's EOS."""
    tokenizer = tokenizer_of(special=True)
    end = tokenizer.convert_tokens_to_ids("<eot>")
    generation = SimpleNamespace(eos_token_id=[tokenizer.eos_token_id, end] if listed else None)
    sampler = HFSampler()
    sampler.encoder = PromptEncoder(tokenizer=tokenizer)
    sampler.policy = SimpleNamespace(model=SimpleNamespace(generation_config=generation), embeddings=len(tokenizer))
    ids = tokenizer("<answer>2</answer>", add_special_tokens=False).input_ids
    assert sampler.decode([[*ids, end]]) == [text]


@pytest.mark.parametrize(("written", "reward"), [("<think>1+1</think><answer>2</answer><eos>", 1), ("1+12<eos>", 0)])
def test_verifiers_see_the_tags(written: str, reward: float) -> None:
    tokenizer = tokenizer_of(special=True)
    (text,) = PromptEncoder(tokenizer=tokenizer).decode([tokenizer(written, add_special_tokens=False).input_ids])
    asked = Prompt(position=0, text="1+1", token_ids=(1,))
    assert build("verifier", {"name": "format"}).score_one(text, asked) == reward
