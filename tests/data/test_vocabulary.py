"""Tokens that the model has no embedding for: said where the tokenizer just holds them, refused where one is used."""

import json
import logging
from types import SimpleNamespace

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from dsrl import build
from dsrl.config.compose import compose
from dsrl.data.encoding import PromptEncoder
from dsrl.errors import ConfigError
from dsrl.evaluation.evaluation import evaluate
from dsrl.models.loading import EMBEDDED, load_model
from dsrl.models.policy import Policy
from dsrl.runs.fit import fit

SIZES = "the tokenizer has 101 tokens and the model embeddings for 100, none for <tool>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The embedded model with a tokenizer that has one token more."""
    made = tmp_path_factory.mktemp("short")
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED["tiny"])
    assert len(tokenizer) == 100
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(made)
    AutoModelForCausalLM.from_pretrained(EMBEDDED["tiny"]).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def policy():
    return Policy(load_model("tiny"))


def encoder_of(folder, **fields):
    return PromptEncoder(tokenizer=AutoTokenizer.from_pretrained(folder), **fields)


def model_with(eos):
    config = SimpleNamespace(eos_token_id=eos)
    return SimpleNamespace(embeddings=100, model=SimpleNamespace(generation_config=config))


def test_it_is_said_once_with_both_sizes_where_nothing_uses_one(folder, policy, caplog):
    with caplog.at_level(logging.WARNING):
        encoder = encoder_of(folder).for_model(policy)
    (message,) = [record.getMessage() for record in caplog.records]
    assert SIZES in message and "model.resize_token_embeddings(101)" in message
    assert encoder.tokens_without_embeddings == ["<tool>"]
    assert encoder.encode("1+1=") == encoder_of(folder).encode("1+1=")


@pytest.mark.parametrize("rows", [100, 101, 128])
def test_as_many_rows_as_tokens_or_more_are_fine(rows, caplog):
    encoder = encoder_of(EMBEDDED["tiny"])
    found = SimpleNamespace(embeddings=rows, model=SimpleNamespace(generation_config=None))
    with caplog.at_level(logging.WARNING):
        assert encoder.for_model(found).tokens_without_embeddings == []
    assert not caplog.records


@pytest.mark.parametrize(
    "use",
    [
        lambda encoder: encoder.encode("<tool>1+1="),
        lambda encoder: encoder.encode([{"role": "user", "content": "1+1=<tool>"}]),
        lambda encoder: encoder.token_id("<tool>"),
        lambda encoder: encoder.token_id(100),
        lambda encoder: encoder.start_token_id,
    ],
    ids=["a prompt", "a chat", "a stop token", "its number", "the start token"],
)
def test_what_uses_one_is_refused_with_both_sizes(use, folder, policy):
    encoder = encoder_of(folder, start_token="<tool>").for_model(policy)
    with pytest.raises(ConfigError, match=SIZES):
        use(encoder)


def test_a_system_prompt_and_a_template_count(folder, policy):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    chat = PromptEncoder(tokenizer=tokenizer, system_prompt="<tool>").for_model(policy)
    template = encoder_of(folder, template="<tool>{question}").for_model(policy)
    for encoder in (chat, template):
        with pytest.raises(ConfigError, match=f"{SIZES}.*a prompt holds it"):
            encoder.encode("1+1=")


@pytest.mark.parametrize("eos", [100, [100, 150]], ids=str)
def test_a_model_whose_only_end_it_cannot_draw_is_refused(folder, eos):
    encoder = encoder_of(folder)
    encoder.tokenizer.eos_token = "<tool>"
    with pytest.raises(ConfigError, match=f"{SIZES}.*none would end"):
        encoder.for_model(model_with(eos))


@pytest.mark.parametrize("eos", [2, [2, 100, 150], None], ids=str)
def test_ends_that_it_cannot_draw_are_left_out_beside_one_that_it_can(folder, policy, eos, monkeypatch):
    encoder = encoder_of(folder).for_model(model_with(eos))
    monkeypatch.setattr(policy.model.generation_config, "eos_token_id", eos)
    sampler = build("sampler", {"name": "hf"})
    sampler.setup(policy, encoder)
    assert sampler.end_token_ids == {2}


def test_gaps_between_ids_count(policy, caplog):
    """99 tokens, of which the last has id 150."""
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED["tiny"])
    vocabulary = {**tokenizer.get_vocab(), "<far>": 150}
    tokenizer.get_vocab = lambda: vocabulary
    with caplog.at_level(logging.WARNING):
        PromptEncoder(tokenizer=tokenizer).for_model(policy)
    assert "the tokenizer has 151 tokens and the model embeddings for 100, none for <far>" in caplog.text


def command(folder, tmp_path, questions, *more):
    rows = [json.dumps({"question": question, "answer": "5555"}) for question in questions]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    return [
        *("model=hf", f"model.name={folder}", "model.max_new_tokens=8", "data=questions", "verifier=exact"),
        *(f"data.train={tmp_path / 'rows.jsonl'}", "prompts_per_iteration=1", "responses_per_prompt=2", "iterations=1"),
        *("validation.every=0", "logger=none", f"run_dir={tmp_path / 'run'}", *more),
    ]


def test_a_run_ends_before_training_however_late_the_row_comes(folder, tmp_path):
    with pytest.raises(ConfigError, match=f"{SIZES}.*a prompt holds it: '<tool>1234"):
        fit(compose(command(folder, tmp_path, ["1+1="] * 20 + ["<tool>1234+4321="])))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_run_whose_prompts_hold_none_goes_on(folder, tmp_path):
    assert len(fit(compose(command(folder, tmp_path, ["1+1=", "12+30="]))).metrics) == 1


def test_an_evaluation_refuses_it_too(folder, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "<tool>1+1=", "answer": "2"}))
    words = [f"model={folder}", f"data.val={tmp_path / 'rows.jsonl'}", "k=1", f"run_dir={tmp_path / 'out'}"]
    with pytest.raises(ConfigError, match=SIZES):
        evaluate([*words, "verifier=exact", "sampling.max_new_tokens=8"])
