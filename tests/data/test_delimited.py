"""Delimited text, .csv and .tsv, and compressed files."""

import bz2
import csv
import gzip
import json
import logging

import pyarrow
import pytest
from records import GOOD, jsonl, rows_of, source

from dsrl.errors import ConfigError


def asked(path, **fields):
    return [(row.question, row.ground_truth) for row in rows_of(str(path), **fields)]


READ = {
    "plain": ("question,answer\n1+1=,2\n", [("1+1=", "2")]),
    "no line end at the end": ("question,answer\n1+1=,2", [("1+1=", "2")]),
    "Windows line ends": ("question,answer\r\n1+1=,2\r\n2+2=,4\r\n", [("1+1=", "2"), ("2+2=", "4")]),
    "old Macintosh line ends": ("question,answer\r1+1=,2\r", [("1+1=", "2")]),
    "a byte order mark": ("\ufeffquestion,answer\n1+1=,2\n", [("1+1=", "2")]),
    "quotes": ('question,answer\n"a, ""b"" and c","x, y"\n', [('a, "b" and c', "x, y")]),
    "quotes within": ("question,answer\n5'10\" is,5.8\n", [("5'10\" is", "5.8")]),
    "lines within": ('question,answer\n"a\nb\r\nc",2\n', [("a\nb\r\nc", "2")]),
    "blank lines": ("question,answer\n\n1+1=,2\n\n\n2+2=,4\n", [("1+1=", "2"), ("2+2=", "4")]),
    "an index": (",question,answer\n0,1+1=,2\n1,2+2=,4\n", [("1+1=", "2"), ("2+2=", "4")]),
    "blanks around names": ("question, answer \n1+1=,2\n", [("1+1=", "2")]),
    "text stays as it is": (
        "question,answer\na, 007\nb,1e3\nc,1.50\nd,nan\n",
        [("a", " 007"), ("b", "1e3"), ("c", "1.50"), ("d", "nan")],
    ),
    "floats of pandas": ("question,answer\na,5555.0\nb,-3.0\nc,0.5\n", [("a", "5555"), ("b", "-3"), ("c", "0.5")]),
    "floats among others": ("question,answer\na,5555.0\nb,7\n", [("a", "5555.0"), ("b", "7")]),
    "decimals": ("question,answer\na,1.50\nb,2.0\n", [("a", "1.50"), ("b", "2.0")]),
    "messages": (
        'prompt,answer\n"[{""role"": ""user"", ""content"": ""1+1=""}]",2\n',
        [([{"role": "user", "content": "1+1="}], "2")],
    ),
    "messages as Python prints them": (
        "prompt,answer\n\"[{'role': 'user', 'content': '1, 2'}]\",2\n",
        [([{"role": "user", "content": "1, 2"}], "2")],
    ),
    "verl's truth": (
        "prompt,reward_model\n1+1=,\"{'ground_truth': '2', 'style': 'rule'}\"\n",
        [("1+1=", "2")],
    ),
}


@pytest.mark.parametrize("form", READ)
def test_forms_of_csv(form, tmp_path):
    text, expected = READ[form]
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert asked(tmp_path / "a.csv", broken_rows="refuse") == expected


def test_a_csv_that_pythons_own_writer_wrote(tmp_path):
    """Independently: what csv.DictWriter writes is what is read."""
    texts = ['a "quoted" word', "one, two", "line\nfeed", "car\r\nriage", "tab\tbed", "ünï ✓", "'", '"', ",", " edge "]
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["question", "answer"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows({"question": text, "answer": f"{number}x"} for number, text in enumerate(texts))
        assert asked(tmp_path / name) == [(text, f"{number}x") for number, text in enumerate(texts)]


def test_whole_numbers_that_are_read_from_floats_are_said(tmp_path, caplog):
    (tmp_path / "a.csv").write_text("question,answer\na,5555.0\nb,\nc,0.5\n")
    with caplog.at_level(logging.WARNING):
        assert asked(tmp_path / "a.csv") == [("a", "5555"), ("c", "0.5")]
    assert "the column 'answer' are written as floats, and 5555.0 is read as 5555" in caplog.text
    assert "a.csv, line 3: needs reward_model.ground_truth or answer, found ''" in caplog.text


WRONG = {
    "semicolons": (
        "question;answer\n1+1=;2\n",
        "its first line is one column, 'question;answer'; .* not by a semicolon",
    ),
    "tabs": ("question\tanswer\n1+1=\t2\n", "must be separated by a comma, not by a tab"),
    "bars": ("question|answer\n1+1=|2\n", "must be separated by a comma, not by a bar"),
    "a quote that does not end": (
        'question,answer\n1+1=,2\n"a,3\nb,4\n',
        "a.csv, line 3: unexpected end of data; quotes",
    ),
    "text after a quote": ('question,answer\n"a"b,3\n', "a.csv, line 2: ',' expected after '\"'"),
    "a column twice": ("question,answer,answer\na,1,2\n", "names the column 'answer' twice"),
    "nothing": ("", "is empty: its first line must name the columns"),
    "blank": ("\n\n", "is empty: its first line must name the columns"),
    "names alone": ("question,answer\n", "holds no usable rows"),
    "no names": (
        "1+1=,2\n2+2=,4\n",
        r"needs prompt .*\n.*its columns are 1\+1=, 2; say which by data\.question=COLUMN",
    ),
    "other names": ("problem,solution\n1+1=,2\n", r"did you mean data\.question=problem data\.answer=solution\?"),
}


@pytest.mark.parametrize("form", WRONG)
def test_what_is_no_csv(form, tmp_path):
    text, message = WRONG[form]
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ConfigError, match=rf"(?s)a\.csv.*{message}" if "a.csv" not in message else message):
        rows_of(str(tmp_path / "a.csv"))


def test_a_line_with_other_fields_than_columns_is_a_broken_row(tmp_path, caplog):
    (tmp_path / "a.csv").write_text('question,answer\n1+1=,2\nOne, two or three?,2\nx\n"a\nb",3\n,,,\n')
    assert asked(tmp_path / "a.csv") == [("1+1=", "2"), ("a\nb", "3")]
    assert "3 of 5 rows skipped" in caplog.text
    assert "line 3: has 3 fields, and the first line names 2 columns; a field that holds a comma needs" in caplog.text
    assert "line 4: has 1 fields" in caplog.text and "line 7: has 4 fields" in caplog.text


def test_a_field_longer_than_pythons_limit(tmp_path):
    before = csv.field_size_limit()
    (tmp_path / "a.csv").write_text("question,answer\n" + "x" * 200_000 + ",2\n")
    assert len(asked(tmp_path / "a.csv")[0][0]) == 200_000
    assert csv.field_size_limit() == before


def test_text_in_another_encoding(tmp_path):
    for name, encoding, hint in (("a.csv", "latin-1", ""), ("b.csv", "utf-16", "it looks like UTF-16")):
        (tmp_path / name).write_bytes("question,answer\nwie groß,2\n".encode(encoding))
        with pytest.raises(ConfigError, match=rf"{name} is not UTF-8 text: .*{hint}"):
            rows_of(str(tmp_path / name))


# Compressed files.

LINES = json.dumps(GOOD) + "\n" + json.dumps({"prompt": "2+2=", "answer": 4}) + "\n"
TABLE = "prompt,answer\n1+1=,2\n2+2=,4\n"
CONTENTS = {
    ".jsonl": LINES,
    ".json": json.dumps([json.loads(line) for line in LINES.splitlines()]),
    ".csv": TABLE,
    ".tsv": TABLE.replace(",", "\t"),
}


def zstd(data):
    return pyarrow.compress(data, codec="zstd", asbytes=True)


@pytest.mark.parametrize("suffix", CONTENTS)
@pytest.mark.parametrize(("packed", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zstd)])
def test_compressed_files_hold_the_same_rows(suffix, packed, pack, tmp_path):
    path = tmp_path / f"my.sums{suffix}{packed}"
    path.write_bytes(pack(CONTENTS[suffix].encode()))
    given = source(train=str(path), val=str(path))
    assert given.check() == []
    assert [(row.question, row.ground_truth, row.data_source) for row in given.train_rows()] == [
        ("1+1=", "2", "my.sums"),
        ("2+2=", "4", "my.sums"),
    ]
    assert list(given.val_sets()) == ["my.sums"]


def test_endings_in_capitals_and_several_members(tmp_path):
    (tmp_path / "A.JSONL").write_text(LINES)
    (tmp_path / "B.Csv.GZ").write_bytes(gzip.compress(TABLE.encode()))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(LINES.encode()) * 2)
    (tmp_path / "d.jsonl.zst").write_bytes(zstd(LINES.encode()) * 2)
    assert [len(rows_of(str(path))) for path in sorted(tmp_path.iterdir())] == [2, 2, 4, 4]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.json.zst"])
@pytest.mark.parametrize("harm", ["plain", "cut", "empty"])
def test_compressed_files_that_cannot_be_read(name, harm, tmp_path):
    pack = gzip.compress if name.endswith(".gz") else zstd
    whole = pack("".join(f'{{"prompt": "{number}?", "answer": "{number}"}}\n' for number in range(3000)).encode())
    middle = len(whole) // 2
    data = {
        "plain": LINES.encode(),
        "cut": whole[:middle],
        "empty": b"",
    }[harm]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=rf"{name} (cannot be uncompressed as \.(gz|zst): .|holds no usable|is )"):
        rows_of(str(tmp_path / name))
    if harm == "cut":
        with pytest.raises(ConfigError, match="cannot be uncompressed"):
            rows_of(str(tmp_path / name))


def test_other_files_are_refused_with_what_can_be_read(tmp_path):
    for name in ("a.txt", "a.xlsx", "a.jsonl.bz2", "a.parquet.gz"):
        (tmp_path / name).write_bytes(bz2.compress(b"x"))
        (problem,) = source(train=str(tmp_path / name)).check()
        assert problem.endswith(
            "expected one of .parquet, .jsonl, .json, .csv, .tsv (these also with .gz or .zst), or a folder"
        )
    jsonl(tmp_path / "b.jsonl", GOOD)
