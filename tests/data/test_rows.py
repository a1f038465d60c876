"""Records of files: verl's rows and plain ones, and rows that cannot be used."""

import json
import logging
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from records import CHAT, GOOD, VERL, jsonl, parquet, rows_of, source

from dsrl.data import Row
from dsrl.errors import ConfigError

MATH = Path(__file__).parents[3] / "shared" / "data" / "math_train.parquet"
VERL_ROW = Row(
    question=CHAT, ground_truth="2", data_source="sums", extra={"ability": "math", "extra_info": {"index": 7}}
)


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_rows_in_verls_schema(write, tmp_path):
    suffix = "jsonl" if write is jsonl else "parquet"
    assert rows_of(write(tmp_path / f"some.{suffix}", VERL)) == [VERL_ROW]


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_plain_rows(write, tmp_path):
    suffix = "jsonl" if write is jsonl else "parquet"
    records = {"prompt": "1+1=", "answer": "2", "level": 3}, {"prompt": "2+2=", "answer": "4", "level": 1}
    assert rows_of(write(tmp_path / f"sums.{suffix}", *records)) == [
        Row(question="1+1=", ground_truth="2", data_source="sums", extra={"level": 3}),
        Row(question="2+2=", ground_truth="4", data_source="sums", extra={"level": 1}),
    ]


def test_a_question_may_be_called_question_and_an_answer_be_a_number(tmp_path):
    path = jsonl(
        tmp_path / "sums.jsonl",
        {"question": "1+1=", "answer": 2},
        {"question": "0+0=", "answer": 0},
        {"prompt": "3", "question": "unused", "answer": "3", "reward_model": {"ground_truth": "4"}},
        {"prompt": None, "question": "5", "answer": "5", "reward_model": None, "data_source": None},
    )
    assert [(row.question, row.ground_truth, row.data_source) for row in rows_of(path)] == [
        ("1+1=", "2", "sums"),
        ("0+0=", "0", "sums"),
        ("3", "4", "sums"),
        ("5", "5", "sums"),
    ]


def test_rows_of_two_schemas_in_one_parquet_file(tmp_path):
    """Parquet fills what a row lacks with null."""
    path = parquet(tmp_path / "both.parquet", VERL, {"question": "2+2=", "answer": "4"})
    assert [(row.question, row.ground_truth) for row in rows_of(path)] == [(CHAT, "2"), ("2+2=", "4")]


def test_lines_end_where_the_line_feed_stands(tmp_path):
    """U+2028 and its like may stand within a JSON string, and are no line ends."""
    text = "one\u2028two\x85three\u2029four"
    assert rows_of(jsonl(tmp_path / "a.jsonl", "", {"prompt": text, "answer": "1"}, "  "))[0].question == text
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "a", "answer": "1"}\r\n{"prompt": "b", "answer": "2"}')
    assert [row.question for row in rows_of(tmp_path / "b.jsonl")] == ["a", "b"]


def test_numbers_of_columns_that_lack_some_are_written_as_they_were(tmp_path):
    """pandas makes 5555.0 of 5555 where another row has none; 0.1 as float32 is 0.10000000149011612."""
    for suffix, kind, numbers, written in (
        ("a", pyarrow.float64(), [5555.0, -3.0, 0.25, 1e300], ["5555", "-3", "0.25", "1e+300"]),
        ("b", pyarrow.float32(), [0.1, 5555.0, 1e-5], ["0.1", "5555", "1e-05"]),
    ):
        answers = pyarrow.array([*numbers, None], kind)
        table = pyarrow.table({"question": [f"{i}?" for i in range(len(answers))], "answer": answers})
        pyarrow.parquet.write_table(table, tmp_path / f"{suffix}.parquet")
        assert [row.ground_truth for row in rows_of(tmp_path / f"{suffix}.parquet")] == written
        datasets.Dataset(table).save_to_disk(tmp_path / suffix)
        assert [row.ground_truth for row in rows_of(tmp_path / suffix)] == written
    assert rows_of(jsonl(tmp_path / "c.jsonl", {"prompt": "x", "answer": [1.0, 0.5]}))[0].ground_truth == "1, 0.5"


def test_columns_of_parquet_that_text_has_not(tmp_path):
    table = {
        "question": pyarrow.array(["a", "b"]),
        "answer": pyarrow.array([[("x", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        "bytes": pyarrow.array([b"2", b"3"]),
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    (row,) = rows_of(tmp_path / "a.parquet")
    assert (row.ground_truth, row.structured_ground_truth) == ('{"x": 1}', {"x": 1})
    with pytest.raises(ConfigError, match="row 0: needs bytes, found b'2'"):
        source(train={"path": str(tmp_path / "a.parquet"), "answer": "bytes"}, broken_rows="refuse").train_rows()
    times = pyarrow.array([0], pyarrow.timestamp("us", tz="Mars/Crater"))
    pyarrow.parquet.write_table(
        pyarrow.table({"question": ["a"], "answer": ["b"], "at": times}), tmp_path / "b.parquet"
    )
    with pytest.raises(ConfigError, match=r"b\.parquet is not a readable parquet file: .*Mars/Crater"):
        rows_of(tmp_path / "b.parquet")


def test_columns_of_other_names(tmp_path):
    record = {"problem": "1+1=", "solution": "so it is #### 2", "answer": "unused", "level": 3}
    path = jsonl(tmp_path / "sums.jsonl", record)
    columns = {"question": "problem", "answer": "solution", "answer_after": "####"}
    (row,) = source(train={"path": path, **columns}).train_rows()
    assert row == Row(question="1+1=", ground_truth="2", data_source="sums", extra={"answer": "unused", "level": 3})
    for change, message in (
        ({"question": "problems"}, "line 1: no field 'problems'; it has problem, solution, answer, level"),
        ({"answer_after": "@"}, "line 1: solution needs an answer after '@', found 'so it is"),
    ):
        with pytest.raises(ConfigError, match=message):
            source(train={"path": path, **columns, **change}, broken_rows="refuse").train_rows()


def test_a_list_of_answers_is_one_answer(tmp_path):
    (row,) = rows_of(jsonl(tmp_path / "a.jsonl", {"question": "x^2=1", "answer": ["-1", 1]}))
    assert (row.ground_truth, row.structured_ground_truth) == ("-1, 1", ["-1", 1])


def test_a_ground_truth_that_is_a_mapping_is_kept_as_it_is(tmp_path):
    tests = {"inputs": ["1"], "outputs": ["ä"]}
    path = tmp_path / "code.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([VERL | {"reward_model": {"ground_truth": tests}}]), path)
    (row,) = rows_of(path)
    assert (row.ground_truth, row.structured_ground_truth) == ('{"inputs": ["1"], "outputs": ["ä"]}', tests)
    assert rows_of(jsonl(tmp_path / "text.jsonl", GOOD))[0].structured_ground_truth is None


def test_a_json_file_may_hold_a_list(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([GOOD, {"prompt": "x"}]))
    with pytest.raises(ConfigError, match=r"a\.json, entry 1: needs reward_model"):
        rows_of(tmp_path / "a.json", broken_rows="refuse")
    assert len(rows_of(tmp_path / "a.json")) == 1
    (tmp_path / "b.json").write_text(json.dumps(GOOD, indent=2))
    assert len(rows_of(tmp_path / "b.json")) == 1
    for wrong in ("[1,", "\n".join([json.dumps(GOOD, indent=2)] * 2), ""):
        (tmp_path / "c.json").write_text(wrong)
        with pytest.raises(
            ConfigError, match=r"c\.json is not JSON: neither a list of objects nor an object a line \("
        ):
            rows_of(tmp_path / "c.json")
    (tmp_path / "d.json").write_text("\n".join([json.dumps(GOOD), json.dumps(GOOD), "{"]))
    assert len(rows_of(tmp_path / "d.json")) == 2


@pytest.mark.parametrize(
    ("content", "places"),
    [
        ({"data": [GOOD, GOOD]}, ["data, entry 0", "data, entry 1"]),
        ({"version": 1, "rows": [GOOD]}, ["rows, entry 0"]),
        ({"train": [GOOD], "info": [1]}, ["train, entry 0"]),
        ([GOOD], ["entry 0"]),
        ({**GOOD, "tags": []}, ["entry 0"]),
    ],
)
def test_a_json_object_may_hold_its_records_under_a_name(content, places, tmp_path, caplog):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        found = [row.place for row in rows_of(tmp_path / "a.json")]
    assert found == [f"{tmp_path}/a.json, {place}" for place in places]
    named = places[0].partition(",")[0]
    expected = [] if named.startswith("entry") else [f"{tmp_path}/a.json: its records are those under '{named}'"]
    assert caplog.messages == expected


# Rows that cannot be used.

MESSAGES = r"prompt must be messages with role and content, found"
QUESTION = r"needs prompt \(text or chat messages\) or question \(text\), found"
ANSWER = r"needs reward_model.ground_truth or answer, found"
BROKEN = [
    ({"answer": "2"}, QUESTION + " None"),
    ({"prompt": " ", "answer": "2"}, QUESTION + " ' '"),
    ({"prompt": 7, "answer": "2"}, QUESTION + " 7"),
    ({"prompt": [], "answer": "2"}, MESSAGES + r" \[\]"),
    ({"prompt": ["1+1="], "answer": "2"}, MESSAGES),
    ({"prompt": [{"role": "user"}], "answer": "2"}, MESSAGES),
    ({"prompt": [{"role": "user", "content": ""}], "answer": "2"}, MESSAGES),
    ({"prompt": "1+1="}, ANSWER + " None"),
    ({"prompt": "1+1=", "answer": " "}, ANSWER + " ' '"),
    ({"prompt": "1+1=", "reward_model": {"ground_truth": ""}}, ANSWER + " ''"),
    ({"prompt": "1+1=", "answer": float("nan")}, ANSWER + " nan"),
    ({"prompt": "1+1=", "answer": {}}, r"needs reward_model.ground_truth or answer, found {}"),
    ({"prompt": "1+1=", "answer": [""]}, r"needs reward_model.ground_truth or answer, found \[''\]"),
    ({"prompt": "1+1=", "answer": [None]}, ANSWER + r" \[None\]"),
    ({"prompt": "1+1=", "answer": [float("nan")]}, ANSWER + r" \[nan\]"),
    ({"prompt": "1+1=", "answer": ["", ""]}, ANSWER + r" \['', ''\]"),
    ({"prompt": "1+1=", "answer": ["a", None]}, ANSWER + r" \['a', None\]"),
    ('{"prompt": "1\\ud800", "answer": "2"}', "the question holds half a character"),
    ('{"prompt": [{"role": "user", "content": "1\\ud800"}], "answer": "2"}', "the question holds half a character"),
    ('{"prompt": "1+1=", "answer": "\\udfff2"}', "the answer holds half a character"),
    ('{"prompt": "1+1=", "answer": ' + "7" * 5000 + "}", "not JSON: Exceeds the limit"),
    ("[" * 100_000, "not JSON: nested too deeply"),
    ([1, 2], "expected an object with fields, found list"),
    ("{'prompt': 'single quotes'}", "not JSON: Expecting property name"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN, ids=[str(record)[:60] for record, _ in BROKEN])
def test_broken_rows_are_skipped_or_refused_and_named(broken, message, tmp_path, caplog):
    path = jsonl(tmp_path / "some.jsonl", GOOD, broken, GOOD)
    where = rf"some\.jsonl, line 2: {message}"
    with caplog.at_level(logging.WARNING):
        assert len(rows_of(path)) == 2
    (record,) = caplog.records
    assert "1 of 3 rows skipped (data.broken_rows=skip)" in record.getMessage()
    with pytest.raises(ConfigError, match=where) as error:
        rows_of(path, broken_rows="refuse")
    assert str(error.value) in record.getMessage()
    with pytest.raises(ConfigError, match=r"other\.jsonl holds no usable rows\n.*line 1"):
        rows_of(jsonl(tmp_path / "other.jsonl", broken))


def test_many_broken_rows_are_counted_and_three_are_shown(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        rows_of(jsonl(tmp_path / "some.jsonl", GOOD, *[{"prompt": "x"}] * 9))
    message = caplog.records[0].getMessage()
    assert "9 of 10 rows skipped" in message and message.count("line ") == 3 and message.endswith("\n  ...")


def test_rows_of_parquet_count_from_0(tmp_path):
    path = parquet(tmp_path / "some.parquet", GOOD, {"prompt": "x", "answer": ""})
    with pytest.raises(ConfigError, match=r"some\.parquet, row 1: needs reward_model"):
        rows_of(path, broken_rows="refuse")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.parquet").write_text("no parquet")
    (tmp_path / "b.jsonl").write_bytes(b'{"prompt": "\xff"}')
    (tmp_path / "c.jsonl").write_text("")
    for name, message in (
        ("a.parquet", "is not a readable parquet file"),
        ("b.jsonl", "is not UTF-8 text"),
        ("c.jsonl", "holds no usable rows"),
    ):
        with pytest.raises(ConfigError, match=f"{name} {message}"):
            rows_of(tmp_path / name)
    (tmp_path / "d.jsonl").mkdir()
    assert source(train=str(tmp_path / "d.jsonl")).check() == [f"data.train={tmp_path}/d.jsonl: is not a file"]
    with pytest.raises(ConfigError, match=r"d\.jsonl cannot be read: Is a directory"):  # root may read any file
        rows_of(tmp_path / "d.jsonl")


@pytest.mark.skipif(not MATH.exists(), reason="needs the real file beside the repository")
def test_the_real_training_file(caplog):
    """Of its 7500 rows, 4 have an empty ground truth."""
    with caplog.at_level(logging.WARNING):
        rows = rows_of(str(MATH))
    assert len(rows) == 7496
    assert "4 of 7500 rows skipped" in caplog.text and "math_train.parquet, row 5341: needs" in caplog.text
    assert [message["role"] for message in rows[0].question] == ["system", "user"]
    assert rows[0].ground_truth == "0" and rows[0].data_source == "qwen_math_train"
    assert rows[0].extra["extra_info"] == {"index": 0, "split": "train"}
    assert {5341, 5343, 6627, 7301}.isdisjoint(row.extra["extra_info"]["index"] for row in rows)
    with pytest.raises(ConfigError, match=r"row 5341: needs reward_model\.ground_truth or answer, found ''"):
        rows_of(str(MATH), broken_rows="refuse")
