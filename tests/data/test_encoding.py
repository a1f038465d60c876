"""Text to token ids: chat templates, truncation, and which token starts the marginal space."""

from datetime import date

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import ByT5Tokenizer, CanineTokenizer, PreTrainedTokenizerFast

from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.errors import ConfigError
from dsrl.models.loading import load_tokenizer

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHARACTERS = ["?", "\n", " ", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+=.<>/#"]
# Qwen3's, without tools: thinking is on unless it is said to be off.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
PLAIN = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"


# What opens a chat, in the form of each family's template; for all of them "model.start_token" is left open.
FAMILIES = {
    "Qwen3": (None, "<|im_start|>", CHATML),
    "SmolLM2": ("<|im_start|>", "<|im_start|>", CHATML),
    "Llama-3": (
        "<|begin_of_text|>",
        "<|begin_of_text|>",
        "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
        "{{ message['content'] | trim }}<|eot_id|>{% endfor %}",
    ),
    "Gemma-3": (
        "<bos>",
        "<bos>",
        "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n{{ message['content'] }}"
        "<end_of_turn>\n{% endfor %}",
    ),
    "Phi-4": (
        "<|endoftext|>",
        "<|im_start|>",
        "{% for message in messages %}<|im_start|>{{ message['role'] }}<|im_sep|>{{ message['content'] }}<|im_end|>"
        "{% endfor %}",
    ),
    "GPT-OSS": (
        "<|startoftext|>",
        "<|start|>",
        "<|start|>system<|message|>Reasoning: low<|end|>{% for message in messages %}<|start|>{{ message['role'] }}"
        "<|message|>{{ message['content'] }}<|end|>{% endfor %}",
    ),
    "Mistral": (
        "<s>",
        "<s>",
        "{{ bos_token }}{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}",
    ),
    "OLMo-2": (
        "<|endoftext|>",
        "<|endoftext|>",
        "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\n{% endfor %}",
    ),
}


def tokenizer_of(template=CHATML, **special):
    """Without BOS, like Qwen's: a token a character, and three special ones, beside those that are named."""
    vocabulary = {token: index for index, token in enumerate([*CHARACTERS, *SPECIAL])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    made.chat_template = template
    return made


def qwen(template=CHATML):
    return tokenizer_of(template, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def encoder_of(tokenizer, **fields):
    return PromptEncoder(tokenizer=tokenizer, **fields)


def text_of(encoder, ids):
    return encoder.tokenizer.decode(list(ids))


def start_of(tokenizer, **fields):
    return tokenizer.convert_ids_to_tokens(encoder_of(tokenizer, **fields).start_token_id)


# The start token.


def test_without_a_chat_bos_comes_first():
    for template, chat in ((CHATML, False), (None, True)):
        tokenizer = tokenizer_of(template, bos_token="<|endoftext|>", eos_token="<|im_end|>")
        assert start_of(tokenizer, chat=chat) == "<|endoftext|>"
    assert start_of(load_tokenizer(ModelConfig(name="tiny"))) == "<bos>"


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_what_opens_the_familys_own_chat(family):
    bos, opening, template = FAMILIES[family]
    named = {"bos_token": bos} if bos else {}
    extra = ["<|start|>", "<|message|>", "<|im_sep|>", "<start_of_turn>", "<|start_header_id|>", "<|end_header_id|>"]
    tokenizer = tokenizer_of(template, eos_token="<|im_end|>", **named)
    tokenizer.add_special_tokens({"additional_special_tokens": extra})
    assert start_of(tokenizer) == opening
    assert encoder_of(tokenizer).encode("1+1=")[0] == encoder_of(tokenizer).start_token_id  # as every chat begins
    assert start_of(tokenizer, chat=False) == (bos or opening)
    assert start_of(tokenizer, start_token="a") == "a"


def test_without_bos_it_is_what_opens_the_chat_template():
    assert start_of(qwen()) == "<|im_start|>"  # as in arXiv 2604.14142
    assert start_of(qwen(), chat=False) == "<|im_start|>"


def test_what_opens_a_template_in_plain_letters_is_no_start_token():
    assert start_of(qwen(PLAIN)) == "<|im_end|>"
    assert start_of(tokenizer_of(PLAIN, bos_token="<|endoftext|>")) == "<|endoftext|>"


def test_without_a_template_it_is_eos():
    assert start_of(qwen(None)) == "<|im_end|>"


def test_without_any_it_must_be_given():
    with pytest.raises(ConfigError, match=r"no BOS, no chat template and no EOS token: set model\.start_token"):
        _ = encoder_of(tokenizer_of(None)).start_token_id
    assert start_of(tokenizer_of(None), start_token="<|im_start|>") == "<|im_start|>"


def test_it_can_be_given_as_a_token_or_an_id():
    tokenizer = tokenizer_of(bos_token="<|endoftext|>")
    assert start_of(tokenizer, start_token="<|im_start|>") == "<|im_start|>"
    assert start_of(tokenizer, start_token="a") == "a"
    for index in (0, 7, len(tokenizer) - 1):
        assert encoder_of(tokenizer, start_token=index).start_token_id == index


@pytest.mark.parametrize("unknown", ["<|nope|>", "ab", "", 10_000, -1])
def test_one_that_is_not_in_the_vocabulary_is_refused(unknown):
    with pytest.raises(ConfigError, match=f"is not in the tokenizer's vocabulary of {len(qwen())} tokens") as error:
        _ = encoder_of(qwen(), start_token=unknown).start_token_id
    assert repr(unknown) in str(error.value)


def test_stop_tokens_by_name():
    encoder = encoder_of(qwen())
    assert text_of(encoder, [encoder.token_id("<|im_end|>"), encoder.token_id("\n")]) == "<|im_end|>\n"
    with pytest.raises(ConfigError, match="token 'nope'"):
        encoder.token_id("nope")


# Chats.

ASKED = "<|im_start|>user\n1+1=<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def test_a_question_goes_through_the_chat_template_with_thinking_off():
    encoder = encoder_of(qwen())
    text, ids, cut = encoder.read("1+1=")
    assert (text, cut) == (ASKED, False)
    assert text_of(encoder, ids) == ASKED
    assert encoder.encode("1+1=") == ids == encoder.encode([{"role": "user", "content": "1+1="}])
    assert ids[0] == encoder.start_token_id


def test_the_system_prompt_stands_before_chats_without_one():
    encoder = encoder_of(qwen(), system_prompt="Be brief.")
    system = "<|im_start|>system\nBe brief.<|im_end|>\n"
    question = [{"role": "user", "content": "1+1="}]
    assert encoder.read("1+1=")[0] == encoder.read(question)[0] == system + ASKED
    assert question == [{"role": "user", "content": "1+1="}]  # the row itself is left alone
    own = [{"role": "system", "content": "Be long."}, *question]
    assert encoder.read(own)[0] == system.replace("brief", "long") + ASKED


def test_a_chat_of_several_turns():
    turns = [("user", "1+1="), ("assistant", "2"), ("user", "sure?")]
    text = encoder_of(qwen()).read([{"role": role, "content": content} for role, content in turns])[0]
    assert text.count("<|im_start|>") == 4 and text.endswith("sure?" + ASKED.split("1+1=")[1])


def test_special_tokens_come_from_the_template_alone():
    tokenizer = load_tokenizer(ModelConfig(name="tiny"))  # adds BOS to plain text
    tokenizer.chat_template = "{{ bos_token }}{{ messages[0]['content'] }}"
    assert text_of(encoder_of(tokenizer), encoder_of(tokenizer).encode("1+1=")) == "<bos>1+1="


def test_plain_text_where_there_is_no_template_or_none_is_wanted():
    for encoder in (encoder_of(qwen(None)), encoder_of(qwen(), chat=False)):
        assert encoder.read("1+1=")[0] == "1+1="
        assert text_of(encoder, encoder.encode("1+1=")) == "1+1="
        turns = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1+1="}]
        assert encoder.read(turns)[0] == "Add.\n1+1="


def test_plain_text_has_the_tokens_that_the_tokenizer_adds():
    assert encoder_of(load_tokenizer(ModelConfig(name="tiny"))).encode("1+1=")[0] == 1


def test_a_system_prompt_that_no_question_would_carry_is_refused():
    for tokenizer, chat, why in ((qwen(None), True, "has no chat template"), (qwen(), False, "model.chat is false")):
        with pytest.raises(ConfigError, match=f"data.system_prompt='Be brief.'.*{why}"):
            encoder_of(tokenizer, chat=chat, system_prompt="Be brief.")


# Length.


def test_long_prompts_lose_their_beginning():
    encoder = encoder_of(qwen(None), max_tokens=4)
    assert encoder.read("abcd") == ("abcd", encoder.encode("abcd"), False)
    text, ids, cut = encoder.read("abcdef")
    assert (text, text_of(encoder, ids), cut) == ("abcdef", "cdef", True)


def test_a_chat_that_is_cut_still_opens_the_answer():
    encoder = encoder_of(qwen(), max_tokens=40)
    assert text_of(encoder, encoder.encode("x" * 100)).endswith("assistant\n<think>\n\n</think>\n\n")
    assert len(encoder.encode("x" * 100)) == 40


def test_an_empty_prompt_is_the_start_token():
    encoder = encoder_of(qwen(None))
    assert encoder.read("") == ("", (encoder.start_token_id,), False)


# Back to text.


def test_texts_come_without_special_tokens():
    encoder = encoder_of(qwen(None))
    ids = [encoder.encode("ab<|im_end|>"), encoder.encode("1 + 1 ."), ()]
    assert len(ids[0]) == 3
    assert encoder.decode(ids) == ["ab", "1 + 1 .", ""]
    assert encoder.decode([]) == []


def test_options_of_the_chat_template():
    thinking = encoder_of(qwen(), chat_options={"enable_thinking": True})
    assert thinking.read("1+1=")[0] == ASKED.removesuffix("<think>\n\n</think>\n\n")


def test_a_template_for_models_without_a_chat():
    template = "Question: {question}\nAnswer:"
    for tokenizer, chat in ((qwen(), False), (qwen(None), True)):
        encoder = encoder_of(tokenizer, chat=chat, template=template)
        assert encoder.read("1+1=")[0] == "Question: 1+1=\nAnswer:"
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{1}+1="}]
    assert encoder.read(chat)[0] == "Question: Be brief.\n{1}+1=\nAnswer:"
    with pytest.raises(ConfigError, match=r"goes with model\.chat=false"):
        encoder_of(qwen(), template=template)


@pytest.mark.parametrize(
    ("positions", "max_length", "expected"), [(512, None, 412), (512, 200, 100), (None, 200, 100), (None, None, 1024)]
)
def test_a_response_has_room_in_the_model_and_in_the_sampler(positions, max_length, expected):
    encoder = PromptEncoder(tokenizer=load_tokenizer(ModelConfig(name="tiny")))
    assert encoder.leaving_room(positions, 100, max_length).max_tokens == expected
    assert encoder.max_tokens == 1024


@pytest.mark.parametrize("chat", [True, False])
def test_a_prompt_longer_than_the_tokenizer_is_made_for_brings_no_warning_of_its_own(chat):
    """dsrl cuts it, or leaves it out, and says so itself."""
    tokenizer = tokenizer_of(model_max_length=4)
    warned = []
    tokenizer._eventual_warn_about_too_long_sequence = lambda ids, most, verbose: warned.append(verbose)
    PromptEncoder(tokenizer=tokenizer, chat=chat).read("What is 1+1?")
    assert warned and not any(warned)


# What a tokenizer adds to texts.

BOS, EOS, OTHER = "<|im_start|>", "<|endoftext|>", "<|im_end|>"


def adding(single, template=None):
    """A tokenizer whose post-processor adds special tokens around each text `$A`."""
    tokenizer = tokenizer_of(template, bos_token=BOS, eos_token=EOS)
    known = [(token, tokenizer.convert_tokens_to_ids(token)) for token in SPECIAL]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=known)
    return tokenizer


@pytest.mark.parametrize(
    ("single", "question", "read"),
    [
        ("$A", "1+1=", "1+1="),
        (f"{BOS} $A", "1+1=", f"{BOS}1+1="),
        (f"$A {EOS}", "1+1=", "1+1="),
        (f"{BOS} $A {EOS}", "1+1=", f"{BOS}1+1="),
        (f"$A {OTHER}", "1+1=", "1+1="),  # an end that is not called EOS
        (f"{BOS} $A {OTHER} {EOS}", "1+1=", f"{BOS}1+1="),
        (f"{EOS} $A {EOS}", "1+1=", f"{EOS}1+1="),  # one token at both ends
        (f"{BOS} {OTHER} $A {EOS}", "1+1=", f"{BOS}{OTHER}1+1="),
        (f"$A {EOS}", f"1+1={EOS}", f"1+1={EOS}"),  # what the row itself holds stays
        (f"{BOS} $A {EOS}", f"a{EOS}b", f"{BOS}a{EOS}b"),
        (f"{BOS} $A", f"{BOS}1+1=", f"{BOS}1+1="),  # and comes once
        (f"{BOS} $A {EOS}", f"{BOS}1+1={EOS}", f"{BOS}1+1={EOS}"),
        (f"{BOS} $A {EOS}", BOS, BOS),
        (f"{BOS} $A {EOS}", EOS, f"{BOS}{EOS}"),
        (f"{BOS} $A {EOS}", "", BOS),
        (f"$A {EOS}", "", BOS),  # the start token
    ],
)
def test_a_prompt_opens_as_every_text_does_and_does_not_end_as_one(single, question, read):
    encoder = encoder_of(adding(single))
    assert text_of(encoder, encoder.encode(question)) == read


def test_what_the_tokenizer_adds_stays_out_of_chats():
    """The template alone says where a turn, and the chat, begin and end; EOS ends the assistant's turns on purpose."""
    template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    chat = [{"role": role, "content": text} for role, text in (("user", "1"), ("assistant", "2"), ("user", "3"))]
    encoder = encoder_of(adding(f"{BOS} $A {EOS}", template))
    for question, expected in (
        ("1", f"{BOS}[user]1[assistant]"),
        (chat, f"{BOS}[user]1[assistant]2{EOS}[user]3[assistant]"),
        (chat[:2], f"{BOS}[user]1[assistant]2"),
    ):
        assert encoder.read(question)[0] == expected
        ids = encoder.encode(question)
        assert [ids.count(encoder.token_id(token)) for token in (BOS, EOS)] == [
            expected.count(token) for token in (BOS, EOS)
        ]


def test_what_a_tokenizer_adds_is_told_apart_from_the_text():
    encoder = encoder_of(adding(f"{BOS} $A {OTHER} {EOS}"))
    bos, eos, other = (encoder.token_id(token) for token in SPECIAL[1::-1] + SPECIAL[2:])
    plus = encoder.token_id("+")
    assert encoder.split_ids("+") == ([bos], [plus], [other, eos])
    assert encoder.split_ids(f"{OTHER}{EOS}") == ([bos], [other, eos], [other, eos])
    assert encoder_of(qwen(None)).split_ids("+") == ([], [plus], [])


def test_a_prompt_is_cut_after_the_end_was_left_out():
    encoder = encoder_of(adding(f"{BOS} $A {EOS}"), max_tokens=3)
    text, ids, cut = encoder.read("1+1=")
    assert (text_of(encoder, ids), cut) == ("+1=", True)


@pytest.mark.parametrize(
    ("made", "opening", "bare"),
    [
        (ByT5Tokenizer, [], [byte + 3 for byte in b"1+1="]),  # ends every text with </s>
        (CanineTokenizer, [0xE000], [ord(letter) for letter in "1+1="]),  # [CLS] text [SEP]
    ],
)
def test_tokenizers_of_other_kinds_that_end_every_text(made, opening, bare):
    encoder = encoder_of(made())
    assert len(made()("1+1=").input_ids) == len(opening) + len(bare) + 1
    assert encoder.encode("1+1=") == (*opening, *bare)


# The assistant's turn.


def chat_of(*turns):
    return [{"role": role, "content": content} for role, content in turns]


@pytest.mark.parametrize(
    ("template", "turns", "read"),
    [
        (
            CHATML,
            [("user", "1+1="), ("assistant", "It is")],
            "<|im_start|>user\n1+1=<|im_end|>\n<|im_start|>assistant\nIt is",
        ),
        (CHATML, [("assistant", "#")], "<|im_start|>assistant\n#"),
        (
            CHATML,
            [("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "2")],
            "<|im_start|>user\n1<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\n3<|im_end|>\n"
            "<|im_start|>assistant\n2",
        ),
        (PLAIN, [("user", "1"), ("assistant", "2")], "user: 1\nassistant: 2"),
        (
            FAMILIES["Llama-3"][2],
            [("user", "1"), ("assistant", "So")],
            "{bos}<|start_header_id|>user<|end_header_id|>\n\n1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nSo",
        ),
        (CHATML, [("user", "1"), ("assistant", "a ")], "<|im_start|>user\n1<|im_end|>\n<|im_start|>assistant\na "),
        (None, [("user", "1"), ("assistant", "2")], "1\n2"),
    ],
)
def test_the_model_goes_on_with_a_last_turn_by_the_assistant(template, turns, read):
    text, ids, _ = encoder_of(tokenizer_of(template, bos_token=BOS, eos_token=EOS)).read(chat_of(*turns))
    assert text == read.replace("{bos}", BOS)
    assert len(ids) > 0


def test_what_the_assistant_has_begun_stands_after_a_template_around_the_question():
    encoder = encoder_of(qwen(None), template="Q: {question}\nA:")
    assert encoder.render(chat_of(("user", "1+1="), ("assistant", " It is"))) == "Q: 1+1=\nA: It is"


def test_a_template_that_cannot_be_left_open_refuses_the_turn():
    """It takes other words for the assistant's."""
    encoder = encoder_of(qwen("{% for m in messages %}{{ 'x' if m.role == 'assistant' else m.content }}{% endfor %}"))
    with pytest.raises(
        ConfigError, match=r"chat template refuses it: .*data\.last_turn=drop asks without the last turn"
    ):
        encoder.read(chat_of(("user", "1"), ("assistant", "2")))


PARTS = (  # as SmolVLM's: a text would be read letter by letter, and none of it written
    "{% for m in messages %}<|im_start|>{{ m.role }}:{% for part in m.content %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


@pytest.mark.parametrize("template", [PARTS, PARTS.replace("m.content", "m['content'][0:9]")])
def test_a_template_that_takes_contents_in_parts_alone(template):
    encoder = encoder_of(qwen(template), system_prompt="Be brief.")
    system = "<|im_start|>system:Be brief.<|im_end|>"
    assert encoder.render("1+1=") == f"{system}<|im_start|>user:1+1=<|im_end|><|im_start|>"
    begun = chat_of(("user", "1"), ("assistant", "So"))
    assert encoder.render(begun) == f"{system}<|im_start|>user:1<|im_end|><|im_start|>assistant:So"
    assert encoder_of(qwen()).render("1") == ASKED.replace("1+1=", "1")


# Templates that refuse.

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}" + CHATML
LEAVES_OUT = "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (NO_SYSTEM, r"takes no system message \(the model's chat template refuses it: no system messages\)"),
        (LEAVES_OUT, "leaves out system messages"),
        ("{{ messages[1].missing.missing }}", "takes no system message .*no attribute 'missing'"),
    ],
)
def test_a_system_prompt_that_the_template_does_not_take_is_refused_by_its_key(template, why):
    with pytest.raises(ConfigError, match=rf"data\.system_prompt='Be brief\.': the model's chat template {why}"):
        encoder_of(qwen(template), system_prompt="Be brief.")
    assert encoder_of(qwen(template)).system_prompt is None


def test_the_start_token_of_a_template_that_wants_a_system_message():
    wants = "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    assert start_of(qwen(wants)) == "<|im_start|>"
    with pytest.raises(ConfigError, match="chat template refuses it: never"):
        start_of(qwen("{{ raise_exception('never') }}"))


DATED = "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%H:%M') }}: {{ messages[0]['content'] }}"


def test_templates_that_write_the_date_are_given_one_day(monkeypatch):
    """As those of Llama 3.2, SmolLM3 and GPT-OSS: a run that goes on past midnight would ask other prompts."""
    days = iter([date(2026, 11, 30), date(2026, 12, 1)])
    monkeypatch.setattr(
        "dsrl.data.encoding.date", type("date", (date,), {"today": classmethod(lambda cls: next(days))})
    )
    encoder = encoder_of(tokenizer_of(DATED))
    assert [encoder.render("x"), encoder.render("y")] == ["30 Nov 2026 00:00: x", "30 Nov 2026 00:00: y"]
    assert encoder_of(tokenizer_of(DATED), chat_date="2024-02-29").render("x") == "29 Feb 2024 00:00: x"
