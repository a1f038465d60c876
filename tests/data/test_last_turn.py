"""Chats whose last turn is the assistant's: gone on with, left out, refused; and those that give the answer."""

import pytest
from records import jsonl, rows_of

from dsrl.data.last_turn import gives_answer
from dsrl.errors import ConfigError

USER = {"role": "user", "content": "1234+4321="}


def ending(text, answer="5555"):
    return {"prompt": [USER, {"role": "assistant", "content": text}], "answer": answer}


GIVEN = [
    ("#5555", "5555"),
    ("The answer is 5555.", "5555"),
    ("1234 + 4321 = 5,555", "5555"),
    ("It is 5555, since 1234 + 4321 is that.", "5555"),
    ("<think>\nadd\n</think>\n<answer>5555</answer>", "5555"),
    (r"So \boxed{5555}", "5555"),
    (r"So \boxed{\frac{1}{2}}", "0.5"),  # an answer, whatever it is
    (r"x = \frac{1}{2}", r"\frac{1}{2}"),
    ("yes, it is", "Yes"),
    ("The answer is (C).", "C"),
    ("The answer is C", "C"),
    ("C", "C"),
    ("<answer>7</answer>", "7"),
    ("so it is 7 apples", "7"),
    ("x=-3", "-3"),
    ("#### 18", "18"),
]
NOT_GIVEN = [
    ("Let me think.", "5555"),
    ("<think>\n", "5555"),
    (r"The answer is \boxed{", "5555"),
    ("The answer is (", "C"),
    ("Step 1:", "1"),
    ("1. First,", "1"),
    ("A short proof follows", "A"),
    ("We compute 15555", "5555"),
    ("It is 5555.5 or so", "5555"),
    ("It is 3.5555", "5555"),
    ("I know that", "now"),
    ("", "5555"),
]


@pytest.mark.parametrize(("text", "truth"), GIVEN)
def test_turns_that_give_the_answer(text, truth):
    assert gives_answer(text, truth)


@pytest.mark.parametrize(("text", "truth"), NOT_GIVEN)
def test_turns_that_do_not(text, truth):
    assert not gives_answer(text, truth)


def test_a_beginning_is_gone_on_with_and_counted(tmp_path, caplog):
    path = jsonl(tmp_path / "a.jsonl", ending("Let me add."), {"prompt": [USER], "answer": "5555"})
    rows = rows_of(path)
    assert [row.question[-1]["content"] for row in rows] == ["Let me add.", "1234+4321="]
    (message,) = caplog.messages
    assert message.startswith(f"{path}: 1 of 2 rows end with a turn by the assistant, which the model goes on with")
    assert "data.last_turn=drop" in message


def test_a_turn_that_gives_the_answer_is_a_broken_row(tmp_path, caplog):
    path = jsonl(tmp_path / "a.jsonl", ending("#5555"), ending("Let me add."))
    assert [row.question[-1]["content"] for row in rows_of(path)] == ["Let me add."]
    assert "1 of 2 rows skipped" in caplog.text
    assert "line 1: the last turn is the assistant's and gives the answer, '#5555'" in caplog.text
    with pytest.raises(ConfigError, match=r"holds no usable rows\n.*line 1: .*data\.last_turn=drop asks without"):
        rows_of(jsonl(tmp_path / "b.jsonl", ending("#5555"), ending("\\boxed{5555}")))


def test_what_can_be_done_with_it(tmp_path):
    given, begun = ending("#5555"), ending("Let me add.")
    path = jsonl(tmp_path / "a.jsonl", given, begun)
    assert [row.question for row in rows_of(path, last_turn="drop")] == [[USER], [USER]]
    assert [len(row.question) for row in rows_of(path, last_turn="continue")] == [2, 2]
    with pytest.raises(ConfigError, match=r"a\.jsonl, line 1: the last turn is the assistant's \(data\.last_turn=ref"):
        rows_of(path, last_turn="refuse", broken_rows="refuse")
    with pytest.raises(ConfigError, match=r"data\.last_turn=keep: allowed are auto, continue, drop, refuse"):
        rows_of(path, last_turn="keep")
    alone = jsonl(tmp_path / "b.jsonl", {"prompt": [{"role": "assistant", "content": "So"}], "answer": "5555"})
    with pytest.raises(ConfigError, match="the only turn is the assistant's, so that nothing is asked"):
        rows_of(alone, last_turn="drop")
