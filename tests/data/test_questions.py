"""Entries: files, other sources, mixtures, benchmarks."""

import logging

import datasets
import pytest
from records import GOOD, VERL, jsonl, parquet, rows_of, source

from dsrl.data.files import READABLE
from dsrl.errors import ConfigError


def test_several_files_are_read_in_their_order(tmp_path):
    paths = [jsonl(tmp_path / f"{name}.jsonl", {"prompt": name, "answer": "1"}) for name in "ba"]
    assert [(row.question, row.data_source) for row in rows_of(paths)] == [("b", "b"), ("a", "a")]
    assert list(source(train=paths, val=paths).val_sets()) == ["b", "a"]
    assert source(train=paths).val_sets() == {}


def test_what_can_be_seen_before_anything_is_loaded(tmp_path):
    good = jsonl(tmp_path / "good.jsonl", GOOD)
    assert source(train=good, val=[good]).check() == []
    assert source(val=good).check() == []  # as in an evaluation
    (problem,) = source().check_training()
    assert problem == "data.train is not set: give a file, a folder or a hub name, data.train=PATH"
    missing, other = str(tmp_path / "none.jsonl"), tmp_path / "some.txt"
    other.touch()
    problems = source(train=[good, missing], val=str(other)).check()
    assert len(problems) == 2
    assert problems[0].startswith(f"data.train={missing}: no such file")
    assert problems[1] == f"data.val={other}: expected one of {READABLE}, or a folder"
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
    assert problem.startswith("data.val: weights are for data.train")
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
    assert sets["gsm8k"][0].ground_truth == sets["olympiadbench"][0].ground_truth == "2"
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
    assert problem.endswith(f"holds no file aime24 that ends with {READABLE}, nor a data set in a folder aime24")


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
        assert (row.question, row.ground_truth) == ([INSTRUCTION, {"role": "user", "content": "1+1?"}], answer)


def test_columns_given_for_a_benchmark_of_ones_own_are_these_alone(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", {"problem": "1?", "answer": "1", "question": "2?", "solution": "2"})
    (row,) = source(val={"name": "aime24", "path": path, "answer": "solution"}).val_sets()["aime24"]
    assert (row.question[1]["content"], row.ground_truth) == ("2?", "2")
    with pytest.raises(ConfigError, match="no field 'other'"):
        source(val={"name": "aime24", "path": path, "answer": "other"}, broken_rows="refuse").val_sets()
    (problem,) = source(val={"path": path, "instruction": "x"}).check()
    assert "it has path, set, split, config, revision, question, answer, answer_after, weight." in problem


def test_rows_that_are_repeated_k_times_count_once(tmp_path, caplog):
    """As in the paper's files, for avg@k."""
    other = VERL | {"reward_model": {"ground_truth": "3"}}
    path = parquet(tmp_path / "aime24.parquet", *[VERL, other] * 3)
    with caplog.at_level(logging.WARNING):
        (rows,) = source(val=path).val_sets().values()
    assert [row.ground_truth for row in rows] == ["2", "3"]
    assert caplog.messages == [f"{path}: each question stands there 3 times, and counts once"]
    assert len(rows_of(path)) == 6  # in training a repeated row is a row
    caplog.clear()
    path = parquet(tmp_path / "b.parquet", VERL, VERL, other)
    (rows,) = source(val=path).val_sets().values()
    assert len(rows) == 3  # no file of this kind: it is left alone
    told = "questions stand there 1 to 2 times, not all equally often, so each of the 3 rows counts"
    assert caplog.messages == [f"{path}: {told}"]
