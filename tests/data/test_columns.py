"""Columns under other names: suggested as keys of the command line, and read when those are given."""

import json

import pytest
from records import CHAT, VERL, jsonl, rows_of, source

from dsrl.data.columns import suggested_columns
from dsrl.errors import ConfigError

SUGGESTED = [
    ({"problem": "1+1=", "solution": "2"}, "data.question=problem data.answer=solution"),
    ({"messages": CHAT, "answer": "2"}, "data.question=messages"),
    ({"messages": CHAT, "reward_model": {"ground_truth": "2"}}, "data.question=messages"),
    ({"conversations": CHAT, "target": "2"}, "data.question=conversations data.answer=target"),
    ({"prompt": "1+1=", "ground_truth": "2"}, "data.answer=ground_truth"),
    ({"question": "1+1=", "solution": "so 2", "final_answer": "2"}, "data.answer=final_answer"),
    ({"input": "1+1=", "output": "2"}, "data.question=input data.answer=output"),
    ({"instruction": "1+1=", "output": "2"}, "data.question=instruction data.answer=output"),
    ({"query": "1+1=", "response": "2"}, "data.question=query data.answer=response"),
    ({"Question": "1+1=", "Answer": "2"}, "data.question=Question data.answer=Answer"),
    ({"PROBLEM": "1+1=", "Final Answer": "2"}, "data.question=PROBLEM 'data.answer=\"Final Answer\"'"),
    ({"prompt": None, "problem": "1+1=", "answer": None, "label": 2}, "data.question=problem data.answer=label"),
]


@pytest.mark.parametrize(("record", "keys"), SUGGESTED)
def test_usual_names_are_suggested(record, keys, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", record)
    for broken in ("skip", "refuse"):
        with pytest.raises(ConfigError) as error:
            rows_of(path, broken_rows=broken)
        assert str(error.value).endswith(f"\n  did you mean {keys}?")
    words = [word.strip("'").partition("=")[::2] for word in keys.replace("Final Answer", "Final_Answer").split()]
    given = {key.removeprefix("data."): value.strip('"').replace("Final_", "Final ") for key, value in words}
    assert len(rows_of(path, **given)) == 1  # what is suggested is what is read


def test_where_none_is_usual_the_columns_are_listed():
    assert suggested_columns({"q": "1+1=", "a": "2"}, None, None) == (
        "\n  its columns are q, a; say which by data.question=COLUMN data.answer=COLUMN"
    )
    assert suggested_columns({"problem": "1", "a": "2"}, None, None) == (
        "\n  its columns are problem, a; say which by data.question=problem data.answer=COLUMN"
    )


def test_nothing_is_suggested_where_nothing_is_lacking(tmp_path):
    for record in (VERL, {"prompt": " ", "answer": "2"}, {"question": "1", "answer": ""}, [1], None):
        assert suggested_columns(record, None, None) == ""
    with pytest.raises(ConfigError) as error:
        rows_of(jsonl(tmp_path / "a.jsonl", {"prompt": " ", "answer": "2"}))
    assert "did you mean" not in str(error.value)


def test_one_broken_row_among_others_brings_no_suggestion(tmp_path, caplog):
    rows_of(jsonl(tmp_path / "a.jsonl", {"prompt": "1", "answer": "1"}, {"problem": "1", "solution": "1"}))
    assert "1 of 2 rows skipped" in caplog.text and "did you mean" not in caplog.text


def test_columns_of_all_entries_and_of_one(tmp_path):
    a = jsonl(tmp_path / "a.jsonl", {"problem": "1?", "solution": "so #### 1"})
    b = jsonl(tmp_path / "b.jsonl", {"q": "3?", "answer": "3", "solution": "unused"})
    jsonl(tmp_path / "amc23.jsonl", {"question": "4?", "answer": "4", "problem": "unused"})
    given = source(
        train=[a, {"path": b, "question": "q"}],  # which names columns of its own: those alone
        val="amc23",
        benchmarks=str(tmp_path),
        question="problem",
        answer="solution",
        answer_after="####",
        broken_rows="refuse",
    )
    assert given.check() == []
    assert [(row.question, row.ground_truth) for row in given.train_rows()] == [("1?", "1"), ("3?", "3")]
    assert given.val_sets()["amc23"][0].question[1]["content"] == "4?"  # a benchmark has columns of its own, too


def test_a_column_that_is_not_there(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"problem": "1?", "solution": "1"})
    with pytest.raises(ConfigError, match=r"no field 'problems'; it has problem, solution\. Did you mean 'problem'\?"):
        rows_of(path, question="problems", answer="solution", broken_rows="refuse")


def test_messages_in_a_column_of_another_name(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"messages": CHAT, "answer": "2"}, {"messages": json.dumps(CHAT), "answer": "2"})
    assert [row.question for row in rows_of(path, question="messages")] == [CHAT, CHAT]


def test_a_question_in_two_columns_is_no_suggestion(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"instruction": "Add.", "input": "1+1=", "output": "2"})
    with pytest.raises(ConfigError, match=r"stand in two columns, 'instruction' and 'input': write them into one"):
        rows_of(path)


@pytest.mark.parametrize(
    ("more", "question", "beside"),
    [
        ({"choices": ["one", "two"]}, "Which?", "choices"),
        ({"options": {"A": "one", "B": "two"}}, "Which?", "options"),
        ({"choices": {"label": ["A", "B"], "text": ["one", "two"]}}, "Which?", "choices"),
        ({"choices": "A) one B) two"}, "Which?", "choices"),
        ({"context": "It rains."}, "What does it do?", "context"),
        ({"passage": "It rains."}, "What does it do?", "passage"),
        ({"input": "1+1="}, "Add.", "input"),
        ({"choices": ["one", "two"]}, "Which? A) one B) two", None),
        ({"context": "It rains."}, "It rains. What does it do?", None),
        ({"choices": [], "context": None, "input": ""}, "Which?", None),
        ({"level": "hard", "subject": "algebra"}, "Which?", None),
    ],
)
def test_parts_of_a_question_in_columns_of_their_own_are_counted(more, question, beside, tmp_path, caplog):
    path = jsonl(tmp_path / "a.jsonl", {"question": question, "answer": "2", **more}, {"question": "1", "answer": "1"})
    assert len(rows_of(path)) == 2
    told = f"have a column '{beside}' that their question, in 'question', does not hold; it is not asked"
    assert caplog.messages == ([f"{path}: 1 of 2 rows {told}"] if beside else [])
