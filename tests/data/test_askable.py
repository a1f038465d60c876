"""Prompts of all rows before anything is sampled: refused by the chat template, or not what was meant."""

import json
import logging

import pytest
from records import jsonl, source

from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder, Row
from dsrl.data.askable import askable
from dsrl.data.benchmarks import PROMPT
from dsrl.data.datamodule import PromptData
from dsrl.data.first_prompt import shown_prompt
from dsrl.data.mixture import Mixture
from dsrl.errors import ConfigError
from dsrl.models.loading import load_tokenizer

TURNS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[model]{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}"
ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns must alternate') }}{% endif %}{% endfor %}"
)
# As GPT-OSS's does with its own tags: it depends on what is said, not on who says it.
NO_TAGS = (
    "{% for m in messages %}{% if '<tag>' in m.content %}{{ raise_exception('tags in it') }}{% endif %}{% endfor %}"
)
NO_DEVELOPER = "{% for m in messages if m.role != 'developer' %}[{{ m.role }}]{{ m.content }}{% endfor %}"


def encoder_of(template, **fields):
    tokenizer = load_tokenizer(ModelConfig(name="tiny"))
    tokenizer.chat_template = template
    return PromptEncoder(tokenizer=tokenizer, **fields)


def chat(*roles, text="1+1="):
    return [{"role": role, "content": f"{text}"} for role in roles]


def row_of(question, place=""):
    return Row(question=question, ground_truth="2", data_source="sums", place=place)


GEMMA = NO_SYSTEM + ALTERNATE + TURNS
REFUSED = [
    (GEMMA, chat("system", "user"), "no system messages; it takes the chat without its system message"),
    (GEMMA, chat("user", "user"), "turns must alternate"),
    (GEMMA, chat("user", "assistant", "assistant"), "turns must alternate; data.last_turn=drop"),
    (GEMMA, chat("user", "assistant", "user", "user"), "turns must alternate"),
    (GEMMA, chat("system", "user", "user"), "no system messages"),
    (GEMMA, [{"role": "system", "content": PROMPT}, *chat("user")], "data.system_prompt='' asks without it"),
    (NO_TAGS + TURNS, chat("user", text="<tag>"), "tags in it"),
    (NO_TAGS + TURNS, "<tag>", "tags in it"),
    ("{{ messages[1].content }}" + TURNS, "1+1=", "has no element 1"),
    ("{{ messages[0].name.first }}", "1+1=", "no attribute 'name'"),
    ("{{ messages[0].content + 1 }}", "1+1=", "can only concatenate str"),
    ("{{ 1 // 0 }}", "1+1=", "division"),
    ("{% for %}", "1+1=", "Expected an expression"),
]


@pytest.mark.parametrize(("template", "question", "why"), REFUSED)
def test_rows_that_the_template_refuses_are_left_out_or_refused_with_their_place(template, question, why, caplog):
    encoder, bad = encoder_of(template), row_of(question, "a.jsonl, line 7")
    with pytest.raises(ConfigError, match=rf"a\.jsonl, line 7: the model's chat template refuses it: .*({why})"):
        askable(Mixture.of([bad]), encoder, label="data.train", broken="refuse")
    with pytest.raises(ConfigError, match=r"data\.train holds no rows that can be asked\na\.jsonl, line 7: "):
        askable(Mixture.of([bad]), encoder, label="data.train", broken="skip")
    good = row_of("1+1=")
    try:
        encoder.render(good.question)
    except ConfigError:
        return
    with caplog.at_level(logging.WARNING):
        assert [*askable(Mixture.of([good, bad, good]), encoder, label="data.train", broken="skip")] == [good, good]
    assert caplog.messages[0].startswith(
        "data.train: 1 of 3 rows skipped (data.broken_rows=skip):\n  a.jsonl, line 7: "
    )


@pytest.mark.parametrize(
    "question",
    ["1+1=", chat("user"), chat("user", "assistant", "user"), chat("user", "assistant"), chat("user", text="[user]")],
)
def test_rows_that_it_takes_stay(question, caplog):
    rows = Mixture.of([row_of(question)])
    assert askable(rows, encoder_of(GEMMA), label="data.train", broken="refuse") is rows
    assert not caplog.records


def test_a_mixture_keeps_its_proportions():
    parts = [[row_of(chat("user", "user")), *[row_of("1+1=")] * 3], [row_of("2+2=")]]
    kept = askable(Mixture(parts, [3, 1]), encoder_of(GEMMA), label="data.train", broken="skip")
    assert isinstance(kept, Mixture) and [len(part) for part in kept.parts] == [3, 1] and kept.weights == [3, 1]


ODD = [
    (TURNS.replace("[", "<bos>["), "<bos>[user]1+1=", "hold <bos>, which opens a chat, in their text"),
    (TURNS.replace("[", "<bos>["), chat("user", text="<bos>x"), "hold <bos>, which opens a chat, in their text"),
    (NO_DEVELOPER, chat("developer", "user", text="x"), None),  # its text stands there, too
    (NO_DEVELOPER, [{"role": "developer", "content": "Be brief."}, *chat("user")], "have a turn by 'developer' that"),
    (
        "{{ messages[-1].content }}",
        [{"role": "system", "content": "Be brief."}, *chat("user")],
        "a turn by 'system' that",
    ),
    (
        "{{ messages[0].content | upper }}",
        "one",
        "have a turn by 'user' that the model's chat template leaves out or ch",
    ),
    ("{{ messages[0].content | trim }}", " one\n", None),
    (
        "{% for m in messages %}{{ m.content }}<eos>\n{% endfor %}",
        "1+1=",
        "end with <eos>, which the model's chat template w",
    ),
    (
        "{% for m in messages %}{{ m.content }}<eos>\n{% endfor %}",
        chat("user", "assistant"),
        "1 of 2 rows end with <eos>",
    ),
    (TURNS, "<bos>1+1=", None),  # which opens nothing there
    (None, chat("user", "assistant", "user"), "are chats of several turns, asked as plain text"),
    (None, chat("system", "user"), None),
    (None, chat("user", "assistant"), None),
    (None, "<bos>1+1=", None),
]


@pytest.mark.parametrize(("template", "question", "note"), ODD)
def test_prompts_that_may_not_be_what_was_meant_are_counted(template, question, note, caplog):
    rows = Mixture.of([row_of(question), row_of("2+2=")])
    assert askable(rows, encoder_of(template), label="data.train", broken="skip") is rows
    assert [note in message for message in caplog.messages] == ([True] if note else [])
    assert all(message.startswith("data.train: ") for message in caplog.messages)
    caplog.clear()
    askable(rows, encoder_of(template), label="data.train", broken="skip", says=False)
    assert not caplog.records


def test_an_end_that_the_tokenizer_appends_is_said_once(caplog):
    encoder = encoder_of(None)
    state = json.loads(encoder.tokenizer.backend_tokenizer.to_str())["post_processor"]
    assert "<eos>" not in str(state["single"])
    askable(Mixture.of([row_of("1+1=")] * 3), encoder, label="data.train", broken="skip")
    assert not caplog.records
    encoder.tokenizer.backend_tokenizer.post_processor = ending_texts()
    askable(Mixture.of([row_of("1+1=")] * 3), encoder, label="data.train", broken="skip")
    assert caplog.messages == ["data.train: the tokenizer ends every text with <eos>; prompts are asked without it"]


def ending_texts():
    from tokenizers import processors

    return processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)])


# In the data module.


def data_of(encoder, **fields):
    data = PromptData(source(**fields), prompts_per_iteration=2, seed=0, encoder=encoder)
    data.setup("fit")
    return data


def test_the_data_module_leaves_out_what_cannot_be_asked_before_any_prompt_is_made(tmp_path, caplog):
    bad = {"prompt": chat("user", "user"), "answer": "2"}
    train = jsonl(tmp_path / "t.jsonl", {"prompt": "1+1=", "answer": "2"}, bad, {"prompt": "2+2=", "answer": "4"})
    val = jsonl(tmp_path / "v.jsonl", bad, {"prompt": "3+3=", "answer": "6"})
    data = data_of(encoder_of(GEMMA), train=train, val=val)
    asked = {prompt.text for iteration in range(4) for prompt in data.batches[iteration]}
    assert asked == {"[user]1+1=[model]", "[user]2+2=[model]"}
    ((prompt,),) = [data.val_dataloader()[0].dataset[0]]
    assert prompt.text == "[user]3+3=[model]"
    assert f"data.train: 1 of 3 rows skipped (data.broken_rows=skip):\n  {train}, line 2: " in caplog.text
    assert f"data.val v: 1 of 2 rows skipped (data.broken_rows=skip):\n  {val}, line 1: " in caplog.text
    for key in ("train", "val"):
        files = {"train": val, "val": val} if key == "train" else {"train": train, "val": val}
        with pytest.raises(ConfigError, match="turns must alternate"):
            data_of(encoder_of(GEMMA), **files, broken_rows="refuse")


def test_a_resumed_run_compares_the_rows_of_the_file_not_those_that_a_template_takes(tmp_path):
    bad = {"prompt": chat("user", "user"), "answer": "2"}
    train = jsonl(tmp_path / "t.jsonl", {"prompt": "1+1=", "answer": "2"}, bad)
    assert data_of(encoder_of(GEMMA), train=train).state_dict() == data_of(encoder_of(TURNS), train=train).state_dict()


# The first prompt.


def test_the_first_prompt_is_shown_with_its_special_tokens_and_their_number():
    row = row_of("12+34=")
    assert shown_prompt("first prompt", row, encoder_of(None)) == "first prompt (7 tokens):\n  | <bos>12+34="
    templated = encoder_of("{{ bos_token }}{{ messages[0].content }}#;")
    assert shown_prompt("it", row, templated) == "it (9 tokens):\n  | <bos>12+34=#;"


def test_a_long_prompt_is_shown_by_its_ends():
    encoder = encoder_of(None, max_tokens=3000)
    row = row_of("1" * 1500 + "2" * 1495)
    shown = shown_prompt("it", row, encoder)
    assert shown == "it (2,996 tokens):\n  | <bos>" + "1" * 995 + "\n  | [1,000 characters]\n  | " + "2" * 1000
    assert shown_prompt("it", row, encoder, most=None).count("1") == 1500
    cut = encoder_of(None, max_tokens=4)
    assert shown_prompt("it", row_of("123456"), cut) == "it (4 tokens, without its beginning):\n  | 3456"


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_first_rows_are_those_that_are_asked_first(shuffle, tmp_path):
    train = jsonl(tmp_path / "t.jsonl", *[{"prompt": f"{i}+1=", "answer": "2"} for i in range(9)])
    val = jsonl(tmp_path / "v.jsonl", *[{"prompt": f"{i}+2=", "answer": "2"} for i in range(3)])
    data = data_of(encoder_of(None), train=train, val=val, shuffle=shuffle)
    first = data.first_rows()
    assert list(first) == ["data.train", "data.val v"]
    assert first["data.train"].question == data.batches[0][0].text
    assert first["data.val v"].question == "0+2="
