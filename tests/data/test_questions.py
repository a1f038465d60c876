"""Questions from files: verl's rows and plain ones, and rows that cannot be used."""

import json
import logging
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from dsrl import build
from dsrl.data import Row
from dsrl.errors import ConfigError

MATH = Path(__file__).parents[3] / "shared" / "data" / "math_train.parquet"

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1="}]
VERL = {
    "data_source": "sums",
    "prompt": CHAT,
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "2"},
    "extra_info": {"index": 7},
}
VERL_ROW = Row(question=CHAT, answer="2", data_source="sums", extra={"ability": "math", "extra_info": {"index": 7}})


def jsonl(path, *records):
    lines = (record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def parquet(path, *records):
    columns = {key: [record.get(key) for record in records] for record in records for key in record}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return str(path)


def source(**fields):
    return build("data", {"name": "questions", **fields})


def rows_of(path, **fields):
    return source(train=path, **fields).train_rows()


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_rows_in_verls_schema(write, tmp_path):
    suffix = "jsonl" if write is jsonl else "parquet"
    assert rows_of(write(tmp_path / f"some.{suffix}", VERL)) == [VERL_ROW]


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_plain_rows(write, tmp_path):
    suffix = "jsonl" if write is jsonl else "parquet"
    records = {"prompt": "1+1=", "answer": "2", "level": 3}, {"prompt": "2+2=", "answer": "4", "level": 1}
    assert rows_of(write(tmp_path / f"sums.{suffix}", *records)) == [
        Row(question="1+1=", answer="2", data_source="sums", extra={"level": 3}),
        Row(question="2+2=", answer="4", data_source="sums", extra={"level": 1}),
    ]


def test_a_question_may_be_called_question_and_an_answer_be_a_number(tmp_path):
    path = jsonl(
        tmp_path / "sums.jsonl",
        {"question": "1+1=", "answer": 2},
        {"question": "0+0=", "answer": 0},
        {"prompt": "3", "question": "unused", "answer": "3", "reward_model": {"ground_truth": "4"}},
        {"prompt": None, "question": "5", "answer": "5", "reward_model": None, "data_source": None},
    )
    assert [(row.question, row.answer, row.data_source) for row in rows_of(path)] == [
        ("1+1=", "2", "sums"),
        ("0+0=", "0", "sums"),
        ("3", "4", "sums"),
        ("5", "5", "sums"),
    ]


def test_rows_of_two_schemas_in_one_parquet_file(tmp_path):
    """Parquet fills what a row lacks with null."""
    path = parquet(tmp_path / "both.parquet", VERL, {"question": "2+2=", "answer": "4"})
    assert [(row.question, row.answer) for row in rows_of(path)] == [(CHAT, "2"), ("2+2=", "4")]


def test_lines_end_where_the_line_feed_stands(tmp_path):
    """U+2028 and its like may stand within a JSON string, and are no line ends."""
    text = "one\u2028two\x85three\u2029four"
    assert rows_of(jsonl(tmp_path / "a.jsonl", "", {"prompt": text, "answer": "1"}, "  "))[0].question == text
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "a", "answer": "1"}\r\n{"prompt": "b", "answer": "2"}')
    assert [row.question for row in rows_of(tmp_path / "b.jsonl")] == ["a", "b"]


def test_several_files_are_read_in_their_order(tmp_path):
    paths = [jsonl(tmp_path / f"{name}.jsonl", {"prompt": name, "answer": "1"}) for name in "ba"]
    assert [(row.question, row.data_source) for row in rows_of(paths)] == [("b", "b"), ("a", "a")]
    assert list(source(train=paths, val=paths).val_sets()) == ["b", "a"]
    assert source(train=paths).val_sets() == {}


# Rows that cannot be used.

GOOD = {"prompt": "1+1=", "answer": "2"}
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
    ("[" * 100_000, "not JSON: brackets in brackets, too many"),
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


def test_numbers_of_columns_that_lack_some_are_written_as_they_were(tmp_path):
    """pandas makes 5555.0 of 5555 where another row has none; 0.1 as float32 is 0.10000000149011612."""
    for suffix, kind, numbers, written in (
        ("a", pyarrow.float64(), [5555.0, -3.0, 0.25, 1e300], ["5555", "-3", "0.25", "1e+300"]),
        ("b", pyarrow.float32(), [0.1, 5555.0, 1e-5], ["0.1", "5555", "1e-05"]),
    ):
        answers = pyarrow.array([*numbers, None], kind)
        table = pyarrow.table({"question": [f"{i}?" for i in range(len(answers))], "answer": answers})
        pyarrow.parquet.write_table(table, tmp_path / f"{suffix}.parquet")
        assert [row.answer for row in rows_of(tmp_path / f"{suffix}.parquet")] == written
        datasets.Dataset(table).save_to_disk(tmp_path / suffix)
        assert [row.answer for row in rows_of(tmp_path / suffix)] == written
    assert rows_of(jsonl(tmp_path / "c.jsonl", {"prompt": "x", "answer": [1.0, 0.5]}))[0].answer == "1, 0.5"


def test_columns_of_parquet_that_text_has_not(tmp_path):
    table = {
        "question": pyarrow.array(["a", "b"]),
        "answer": pyarrow.array([[("x", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        "bytes": pyarrow.array([b"2", b"3"]),
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    (row,) = rows_of(tmp_path / "a.parquet")
    assert (row.answer, row.structured) == ('{"x": 1}', {"x": 1})
    with pytest.raises(ConfigError, match="row 0: needs bytes, found b'2'"):
        source(train={"path": str(tmp_path / "a.parquet"), "answer": "bytes"}, broken_rows="refuse").train_rows()
    times = pyarrow.array([0], pyarrow.timestamp("us", tz="Mars/Crater"))
    pyarrow.parquet.write_table(
        pyarrow.table({"question": ["a"], "answer": ["b"], "at": times}), tmp_path / "b.parquet"
    )
    with pytest.raises(ConfigError, match=r"b\.parquet is not a readable parquet file: .*Mars/Crater"):
        rows_of(tmp_path / "b.parquet")


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


def test_what_can_be_seen_before_anything_is_loaded(tmp_path):
    good = jsonl(tmp_path / "good.jsonl", GOOD)
    assert source(train=good, val=[good]).check() == []
    assert source(val=good).check() == []  # as in an evaluation
    (problem,) = source().check_training()
    assert problem == "data.train is not set: give a file, a folder or a hub name, data.train=PATH"
    missing, other = str(tmp_path / "none.jsonl"), tmp_path / "some.csv"
    other.touch()
    problems = source(train=[good, missing], val=str(other)).check()
    assert len(problems) == 2
    assert problems[0].startswith(f"data.train={missing}: no such file")
    assert problems[1] == f"data.val={other}: expected one of .parquet, .jsonl, .json, or a folder"
    assert source(train=good, max_prompt_tokens=0).check() == ["data.max_prompt_tokens must be at least 1, not 0"]
    with pytest.raises(ConfigError, match="data.broken_rows=ignore: allowed are skip, refuse"):
        source(train=good, broken_rows="ignore")


def test_validation_sets_of_one_name_are_refused(tmp_path):
    """One would silently take the other's place."""
    (tmp_path / "other").mkdir()
    paths = [jsonl(folder / "test.jsonl", GOOD) for folder in (tmp_path, tmp_path / "other")]
    (problem,) = source(train=paths, val=paths).check()
    assert problem.startswith("data.val: 2 entries are called test, which would be the name of each set")
    named = [paths[0], {"path": paths[1], "set": "other"}]
    assert source(train=paths, val=named).check() == []
    assert list(source(val=named).val_sets()) == ["test", "other"]
    with pytest.raises(ConfigError, match="another entry of data.val brings a set of the name arithmetic"):
        source(val=["arithmetic", {"path": paths[1], "set": "arithmetic"}]).val_sets()


# Entries of other kinds, and columns of other names.


def test_columns_of_other_names(tmp_path):
    record = {"problem": "1+1=", "solution": "so it is #### 2", "answer": "unused", "level": 3}
    path = jsonl(tmp_path / "sums.jsonl", record)
    columns = {"question": "problem", "answer": "solution", "answer_after": "####"}
    (row,) = source(train={"path": path, **columns}).train_rows()
    assert row == Row(question="1+1=", answer="2", data_source="sums", extra={"answer": "unused", "level": 3})
    for change, message in (
        ({"question": "problems"}, "line 1: no field 'problems'; it has problem, solution, answer, level"),
        ({"answer_after": "@"}, "line 1: solution needs an answer after '@', found 'so it is"),
    ):
        with pytest.raises(ConfigError, match=message):
            source(train={"path": path, **columns, **change}, broken_rows="refuse").train_rows()


def test_a_list_of_answers_is_one_answer(tmp_path):
    (row,) = rows_of(jsonl(tmp_path / "a.jsonl", {"question": "x^2=1", "answer": ["-1", 1]}))
    assert (row.answer, row.structured) == ("-1, 1", ["-1", 1])


def test_a_ground_truth_that_is_a_mapping_is_kept_as_it_is(tmp_path):
    tests = {"inputs": ["1"], "outputs": ["ä"]}
    path = tmp_path / "code.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([VERL | {"reward_model": {"ground_truth": tests}}]), path)
    (row,) = rows_of(path)
    assert (row.answer, row.structured) == ('{"inputs": ["1"], "outputs": ["ä"]}', tests)
    assert rows_of(jsonl(tmp_path / "text.jsonl", GOOD))[0].structured is None


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


def saved(folder, **splits):
    made = {name: datasets.Dataset.from_list(records) for name, records in splits.items()}
    (datasets.DatasetDict(made) if len(made) > 1 else next(iter(made.values()))).save_to_disk(folder)
    return str(folder)


def test_a_saved_data_set_with_its_splits(tmp_path):
    two = {"prompt": "2+2=", "answer": "4"}
    path = saved(tmp_path / "sums", train=[GOOD], test=[two, {"prompt": "x", "answer": ""}])
    both = source(train=path, val=path)
    assert both.check() == []
    assert both.train_rows() == [Row(question="1+1=", answer="2", data_source="sums")]
    assert both.val_sets() == {"sums": [Row(question="2+2=", answer="4", data_source="sums")]}
    assert len(source(train={"path": path, "split": "test"}).train_rows()) == 1
    with pytest.raises(ConfigError, match="sums, split test, row 1: needs reward_model.ground_truth or answer"):
        source(val=path, broken_rows="refuse").val_sets()
    with pytest.raises(ConfigError, match="has no split 'tset'; it has train, test: .*Did you mean 'test'?"):
        source(train={"path": path, "split": "tset"}).train_rows()
    alone = saved(tmp_path / "alone", all=[GOOD])
    assert len(source(train=alone).train_rows()) == 1
    with pytest.raises(ConfigError, match="was saved without splits; leave out split=test"):
        source(train={"path": alone, "split": "test"}).train_rows()


def test_validation_never_falls_back_to_the_split_that_is_trained_on(tmp_path):
    path = str(tmp_path / "sums")
    datasets.DatasetDict(train=datasets.Dataset.from_list([GOOD])).save_to_disk(path)
    assert len(source(train=path).train_rows()) == 1
    with pytest.raises(ConfigError, match=r"has no split 'test'; it has train: write {path: .*, split: NAME}"):
        source(val=path).val_sets()
    assert len(source(val={"path": path, "split": "train"}).val_sets()["sums"]) == 1
    datasets.DatasetDict(all=datasets.Dataset.from_list([GOOD])).save_to_disk(tmp_path / "other")
    assert len(source(train=str(tmp_path / "other")).train_rows()) == 1


def test_a_downloaded_copy_with_configurations(tmp_path, monkeypatch):
    """As openai/gsm8k lies on the hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder, configs = tmp_path / "gsm8k", []
    for name, answer in (("main", "2"), ("socratic", "3")):
        (folder / name).mkdir(parents=True)
        for split in ("train", "test"):
            parquet(folder / name / f"{split}-00000-of-00001.parquet", GOOD | {"answer": answer})
        files = "".join(f"  - split: {split}\n    path: {name}/{split}-*\n" for split in ("train", "test"))
        configs.append(f"- config_name: {name}\n  data_files:\n{files}")
    (folder / "README.md").write_text("---\nconfigs:\n" + "".join(configs) + "---\n")
    given = source(train={"path": str(folder), "config": "socratic"}, val={"path": str(folder), "config": "main"})
    assert given.check() == []
    assert [row.answer for row in (*given.train_rows(), *given.val_sets()["gsm8k"])] == ["3", "2"]
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "train.csv").write_text("question,answer\n1+1=,2\n")
    assert source(train=str(tmp_path / "csv")).check() == []
    assert [row.answer for row in rows_of(tmp_path / "csv")] == ["2"]
    (tmp_path / "empty").mkdir()
    (problem,) = source(train=str(tmp_path / "empty")).check()
    assert problem.endswith("or a downloaded copy of a repository of the hub")


def test_a_data_set_that_is_not_there(monkeypatch):
    def unreachable(path, **_):
        raise ConnectionError(f"Couldn't reach '{path}' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    given = source(train="nobody/nothing")
    assert given.check() == []  # the hub alone knows
    with pytest.raises(ConfigError, match="data set nobody/nothing cannot be loaded: Couldn't reach .* HF_HUB_OFFLINE"):
        given.train_rows()


def test_other_sources_are_entries(tmp_path):
    path = jsonl(tmp_path / "sums.jsonl", GOOD)
    mixed = source(train=[path, {"name": "arithmetic", "train_size": 3}], val=["arithmetic", path])
    assert [row.data_source for row in mixed.train_rows()] == ["sums", *["arithmetic"] * 3]
    assert {name: len(rows) for name, rows in mixed.val_sets().items()} == {"arithmetic": 128, "sums": 1}
    (problem,) = source(train={"name": "arithmetic", "digits": 1}).check()
    assert problem == "data.train=arithmetic: data.digits=1: must be at least 2"


def test_weights_are_shares_of_what_is_drawn(tmp_path):
    large = jsonl(tmp_path / "large.jsonl", *[{"prompt": f"l{i}", "answer": "1"} for i in range(9)])
    small = jsonl(tmp_path / "small.jsonl", {"prompt": "s", "answer": "1"})
    entries = [{"path": large, "weight": 1}, {"path": small, "weight": 4}]
    rows = source(train=entries).train_rows()
    assert [row.data_source for row in rows] == ["large"] * 9 + ["small"]
    drawn = [rows[rows.at(place, seed=0)].data_source for place in range(10)]
    assert (drawn.count("large"), drawn.count("small")) == (2, 8)
    assert source(train=[entries[0], small]).check() == [
        "data.train: some entries have a weight and some have none; give one to each, or to none"
    ]
    (problem,) = source(val=entries).check()
    assert problem.startswith("data.val: weights mix what is trained on")
    for weight in (0, -1, "x", True, float("inf")):
        (problem,) = source(train={"path": small, "weight": weight}).check()
        assert problem == f"data.train: weights must be numbers above 0 with a finite sum, not {weight}"


# Benchmarks.

INSTRUCTION = {"role": "system", "content": "Please reason step by step, and put your final answer within \\boxed{}."}


def test_a_benchmark_is_sought_on_the_hub_with_its_own_columns(monkeypatch):
    asked = []

    def load(path, **how):
        asked.append((path, how["name"]))
        rows = {"problem": ["1+1?"], "question": ["1+1?"], "answer": ["#### 2"], "final_answer": [["2"]]}
        made = datasets.Dataset.from_dict(rows)
        return datasets.DatasetDict(train=made, test=made)

    monkeypatch.setattr(datasets, "load_dataset", load)
    sets = source(val=["aime24", "aime25", "amc23", "math500", "gsm8k", "olympiadbench", "minerva"]).val_sets()
    assert list(sets) == ["aime24", "aime25", "amc23", "math500", "gsm8k", "olympiadbench", "minerva"]
    assert asked[0] == ("HuggingFaceH4/aime_2024", None) and asked[4] == ("openai/gsm8k", "main")
    assert sets["gsm8k"][0].answer == sets["olympiadbench"][0].answer == "2"
    for name, (row,) in sets.items():
        assert row.question == [INSTRUCTION, {"role": "user", "content": "1+1?"}] and row.data_source == name
    (row,) = source(val="amc23", system_prompt="Be brief.").val_sets()["amc23"]
    assert row.question == "1+1?"  # the encoder puts the given prompt before it


def test_a_benchmark_from_a_file_of_ones_own(tmp_path):
    jsonl(tmp_path / "amc23.jsonl", {"question": "1+1?", "answer": 2})
    local = source(val="amc23", benchmarks=str(tmp_path))
    assert local.check() == []
    assert local.val_sets()["amc23"][0].question == [INSTRUCTION, {"role": "user", "content": "1+1?"}]
    named = source(val={"name": "aime24", "path": str(tmp_path / "amc23.jsonl")})
    assert [row.data_source for row in named.val_sets()["aime24"]] == ["aime24"]
    (problem,) = source(val="aime24", benchmarks=str(tmp_path)).check()
    assert problem.endswith(
        "holds none of aime24.parquet, aime24.jsonl, aime24.json, nor a data set in a folder aime24"
    )


@pytest.mark.parametrize(
    ("name", "record", "answer"),
    [
        ("aime24", {"problem": "1+1?", "answer": "2", "solution": "unused"}, "2"),
        ("gsm8k", {"question": "1+1?", "answer": "1 and 1 is 2.\n#### 2"}, "2"),
        ("gsm8k", {"question": "1+1?", "answer": "18"}, "18"),
        ("olympiadbench", {"question": "1+1?", "final_answer": ["2"], "answer": None}, "2"),
        ("math500", {"prompt": "1+1?", "problem": "unused", "answer": "0", "reward_model": {"ground_truth": "3"}}, "3"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder", "splits"])
def test_a_benchmark_of_ones_own_has_its_columns_or_those_of_any_row(name, record, answer, kind, tmp_path):
    if kind == "file":
        path = tmp_path / f"{name}.jsonl"
        jsonl(path, record)
    else:
        path, made = tmp_path / name, datasets.Dataset.from_list([record])
        split = "train" if name == "aime24" else "test"
        (made if kind == "folder" else datasets.DatasetDict({split: made})).save_to_disk(path)
    for given in (source(val=name, benchmarks=str(tmp_path)), source(val={"name": name, "path": str(path)})):
        assert given.check() == []
        (row,) = given.val_sets()[name]
        assert (row.question, row.answer) == ([INSTRUCTION, {"role": "user", "content": "1+1?"}], answer)


def test_columns_given_for_a_benchmark_of_ones_own_are_these_alone(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", {"problem": "1?", "answer": "1", "question": "2?", "solution": "2"})
    (row,) = source(val={"name": "aime24", "path": path, "answer": "solution"}).val_sets()["aime24"]
    assert (row.question[1]["content"], row.answer) == ("2?", "2")
    with pytest.raises(ConfigError, match="no field 'other'"):
        source(val={"name": "aime24", "path": path, "answer": "other"}, broken_rows="refuse").val_sets()
    (problem,) = source(val={"path": path, "instruction": "x"}).check()
    assert problem.endswith("it has path, set, split, config, revision, question, answer, answer_after, weight.")


def test_rows_that_are_repeated_k_times_count_once(tmp_path, caplog):
    """As in the paper's files, for avg@k."""
    other = VERL | {"reward_model": {"ground_truth": "3"}}
    path = parquet(tmp_path / "aime24.parquet", *[VERL, other] * 3)
    with caplog.at_level(logging.WARNING):
        (rows,) = source(val=path).val_sets().values()
    assert [row.answer for row in rows] == ["2", "3"]
    assert caplog.messages == [f"{path}: each question stands there 3 times, and counts once"]
    assert len(rows_of(path)) == 6  # in training a repeated row is a row
    caplog.clear()
    path = parquet(tmp_path / "b.parquet", VERL, VERL, other)
    (rows,) = source(val=path).val_sets().values()
    assert len(rows) == 3  # no file of this kind: it is left alone
    told = "questions stand there 1 to 2 times, not all equally often, so each of the 3 rows counts"
    assert caplog.messages == [f"{path}: {told}"]


@pytest.mark.skipif(not MATH.exists(), reason="needs the real file beside the repository")
def test_the_real_training_file(caplog):
    """Of its 7500 rows, 4 have an empty ground truth."""
    with caplog.at_level(logging.WARNING):
        rows = rows_of(str(MATH))
    assert len(rows) == 7496
    assert "4 of 7500 rows skipped" in caplog.text and "math_train.parquet, row 5341: needs" in caplog.text
    assert [message["role"] for message in rows[0].question] == ["system", "user"]
    assert rows[0].answer == "0" and rows[0].data_source == "qwen_math_train"
    assert rows[0].extra["extra_info"] == {"index": 0, "split": "train"}
    assert {5341, 5343, 6627, 7301}.isdisjoint(row.extra["extra_info"]["index"] for row in rows)
    with pytest.raises(ConfigError, match=r"row 5341: needs reward_model\.ground_truth or answer, found ''"):
        rows_of(str(MATH), broken_rows="refuse")
