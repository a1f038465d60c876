"""Questions in the forms that files hold them in: text, messages, messages in other words or written as text."""

import json
import logging
from collections import Counter

import pytest
from records import jsonl, parquet, rows_of

from dsrl.data.chats import question_of
from dsrl.errors import ConfigError

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1="}]
USER = CHAT[1:]


def said(*turns):
    return [{"from": who, "value": text} for who, text in turns]


def asked(content):
    return [{"role": "user", "content": content}]


def read(value):
    counted = Counter()
    return question_of(value, "prompt", counted), [*counted]


UNDERSTOOD = {
    "text": ("1+1=", "1+1="),
    "messages": (CHAT, CHAT),
    "one message": (USER[0], USER),
    "messages in a mapping": ({"messages": CHAT}, CHAT),
    "other keys": ([{**USER[0], "name": "me", "tool_calls": None}], USER),
    "ShareGPT": (said(("system", "Be brief."), ("human", "1+1=")), CHAT),
    "ShareGPT, several turns": (
        said(("human", "1"), ("gpt", "2"), ("human", "3")),
        [{"role": role, "content": text} for role, text in (("user", "1"), ("assistant", "2"), ("user", "3"))],
    ),
    "roles in capitals": ([{"role": "System", "content": "Be brief."}, {"role": "USER", "content": "1+1="}], CHAT),
    "roles of other names": (
        [{"role": "human", "content": "1"}, {"role": "bot", "content": "2"}, {"role": "Human ", "content": "3"}],
        [{"role": role, "content": text} for role, text in (("user", "1"), ("assistant", "2"), ("user", "3"))],
    ),
    "developer": ([{"role": "developer", "content": "x"}, *USER], [{"role": "developer", "content": "x"}, *USER]),
    "one part": (asked([{"type": "text", "text": "1+1="}]), USER),
    "parts": (asked([{"type": "text", "text": "1+"}, {"type": "text", "text": "1="}]), USER),
    "parts as text": (asked(["1+", "1="]), USER),
    "parts of parquet": (asked([{"type": "text", "text": "1+1=", "image": None}]), USER),
    "parts of the responses API": (asked([{"type": "input_text", "text": "1+1="}]), USER),
    "parts without a type": (asked([{"text": "1+1="}]), USER),
    "an empty system message": ([{"role": "system", "content": ""}, *USER], [{"role": "system", "content": ""}, *USER]),
    "a place for the answer": ([*USER, {"role": "assistant", "content": ""}], USER),
    "JSON": (json.dumps(CHAT), CHAT),
    "JSON, indented": (json.dumps(CHAT, indent=2), CHAT),
    "JSON of one message": (json.dumps(USER[0]), USER),
    "JSON in a mapping": (json.dumps({"messages": CHAT}), CHAT),
    "JSON of ShareGPT": (json.dumps(said(("human", "1+1="))), USER),
    "JSON of parts": (json.dumps(asked([{"type": "text", "text": "1+1="}])), USER),
    "as Python prints it": (str(CHAT), CHAT),
    "content before role": (json.dumps([{"content": "1+1=", "role": "user"}]), USER),
    # Text that is no chat.
    "a list in brackets": ("[1, 2, 3]: which is odd?", "[1, 2, 3]: which is odd?"),
    "an object of the question": ('{"value": 3}', '{"value": 3}'),
    "an object with a role": ('{"role": "king"} is JSON', '{"role": "king"} is JSON'),
    "JSON that is no chat": ('[{"name": "a"}]', '[{"name": "a"}]'),
    "a role in words": ("role: user", "role: user"),
}


@pytest.mark.parametrize("form", UNDERSTOOD)
def test_forms_of_a_question(form):
    value, expected = UNDERSTOOD[form]
    assert read(value)[0] == expected


@pytest.mark.parametrize(
    ("value", "notes"),
    [
        (json.dumps(CHAT), ["hold their messages written as text, which is read as messages"]),
        (str(USER), ["hold their messages written as text, which is read as messages"]),
        (
            said(("human", "1"), ("gpt", "2")),
            ["have turns by 'human', which is read as 'user'", "have turns by 'gpt', which is read as 'assistant'"],
        ),
        (CHAT, []),
        ("1+1=", []),
        (asked([{"type": "text", "text": "1"}]), []),
    ],
)
def test_what_is_read_as_something_else_is_said(value, notes):
    assert read(value)[1] == notes


REFUSED = {
    "an image": (asked([{"type": "image"}, {"type": "text", "text": "1"}]), "turn 1: holds a part of type 'image'"),
    "an image by address": (asked([{"type": "image_url", "image_url": {"url": "x"}}]), "a part of type 'image_url'"),
    "an image without a type": (asked([{"image": "a.png"}, {"text": "1"}]), "a part of type 'image'"),
    "sound": (asked([{"type": "input_audio", "input_audio": {}}]), "a part of type 'input_audio'"),
    "video": (asked([{"type": "video", "video": "a.mp4"}]), "a part of type 'video'"),
    "an image in JSON": (json.dumps(asked([{"type": "image", "image": "a"}])), "a part of type 'image'"),
    "a call of a tool": (
        [*USER, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add"}}]}, *USER],
        "turn 2: calls a tool; chats with tools are not asked",
    ),
    "what a tool says": ([*USER, {"role": "tool", "content": "2"}], r"turn 2: is a tool's \(role 'tool'\)"),
    "what a tool says, ShareGPT": (said(("human", "1"), ("function_call", "{}")), "turn 2: is a tool's"),
    "an unknown role": ([{"role": "usr", "content": "1"}], "turn 1: role 'usr' is none of system, developer, user"),
    "no content": ([{"role": "user"}], "must be messages with role and content"),
    "content null": ([{"role": "user", "content": None}], "must be messages with role and content"),
    "content blank": (asked(" "), "must be messages with role and content"),
    "content without parts": (asked([]), "must be messages with role and content"),
    "content that is a number": (asked(7), "must be messages with role and content"),
    "blank in the middle": ([*USER, {"role": "assistant", "content": ""}, *USER], "must be messages with role and"),
    "no role": ([{"content": "1"}], "must be messages with role and content"),
    "no turn": ([], "must be messages with role and content"),
    "nothing but a place for the answer": ([{"role": "assistant", "content": ""}], "must be messages with role"),
    "texts": (["1+1="], "must be messages with role and content"),
    "broken JSON": ('[{"role": "user", "content": "1+1="}', "looks like messages that were written as text"),
    "as numpy prints it": (
        "[{'content': 'a', 'role': 'system'}\n {'content': 'b', 'role': 'user'}]",
        "looks like messages that were written as text",
    ),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_be_asked_is_refused_with_the_turn(form):
    value, message = REFUSED[form]
    with pytest.raises(ConfigError, match=rf"prompt.*{message}"):
        read(value)


# Beside the text.

IMAGE = {"path": "a.png", "bytes": None}
HOLDS = {
    "images": {"images": [IMAGE]},
    "one image": {"image": IMAGE},
    "bytes": {"image": b"\x89PNG"},
    "a path": {"image": "pictures/1.PNG"},
    "an address": {"image_url": "https://example.org/x"},
    "base64": {"image": "iVBOR" * 100},
    "a numbered image": {"image_1": IMAGE},
    "a list of names": {"image_paths": ["one", "two"]},
    "video": {"videos": ["a.mp4"]},
    "sound": {"audio": {"array": [0.1], "path": None}},
    "a name, with a place for it": {"image": "0001", "question": "<image>1+1="},
    "a name, with Qwen's place for it": {"image": "0001", "question": "<|image_pad|>1+1="},
    "tools": {"tools": [{"type": "function", "function": {"name": "add"}}]},
    "tools as text": {"tools": '[{"name": "add"}]'},
}
HOLDS_NONE = {
    "no images": {"images": []},
    "null": {"image": None, "images": [None], "video": ""},
    "nothing in it": {"image": {"path": None, "bytes": None}},
    "none in words": {"image": "None"},
    "a container": {"image": "python:3.11"},
    "a count": {"images": 0, "image": False, "num_images": 2},
    "other columns": {"image_id": 3, "image_size": [2, 2], "imagination": "a.png"},
    "a place alone": {"question": "What does <image> mean in HTML?"},
    "no tools": {"tools": []},
    "tags": {"tools": ["calculator"]},
}


@pytest.mark.parametrize("name", HOLDS)
def test_questions_with_images_video_sound_or_tools_are_counted_and_left_out(name, tmp_path, caplog):
    record = {"question": "1+1=", "answer": "2"}
    path = parquet(tmp_path / "a.parquet", record, {**record, **HOLDS[name]})
    assert len(rows_of(path)) == 1
    assert "1 of 2 rows skipped" in caplog.text and "row 1: column '" in caplog.text
    with pytest.raises(ConfigError, match=r"row 1: column '\w+' holds (what is not text|tools)"):
        rows_of(path, broken_rows="refuse")


@pytest.mark.parametrize("name", HOLDS_NONE)
def test_columns_that_hold_none_of_them_are_left_alone(name, tmp_path, caplog):
    record = {"question": "1+1=", "answer": "2"}
    assert len(rows_of(parquet(tmp_path / "a.parquet", {**record, **HOLDS_NONE[name]}))) == 1
    assert not caplog.records


def test_rows_that_are_read_as_something_else_are_counted(tmp_path, caplog):
    path = jsonl(
        tmp_path / "a.jsonl",
        {"prompt": json.dumps(CHAT), "answer": "2"},
        {"prompt": said(("human", "1+1=")), "answer": "2"},
        {"prompt": said(("human", "1"), ("gpt", "2"), ("human", "3")), "answer": "4"},
        {"prompt": "1+1=", "answer": "2"},
    )
    with caplog.at_level(logging.WARNING):
        assert len(rows_of(path)) == 4
    assert caplog.messages == [
        f"{path}: 1 of 4 rows hold their messages written as text, which is read as messages",
        f"{path}: 2 of 4 rows have turns by 'human', which is read as 'user'",
        f"{path}: 1 of 4 rows have turns by 'gpt', which is read as 'assistant'",
    ]
