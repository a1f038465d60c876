"""Data sets of the hub, saved, downloaded, or not there."""

import datasets
import pyarrow
import pytest
from records import CHAT, GOOD, jsonl, parquet, rows_of, source

from dsrl.data import Row
from dsrl.errors import ConfigError


def saved(folder, **splits):
    made = {name: datasets.Dataset.from_list(records) for name, records in splits.items()}
    (datasets.DatasetDict(made) if len(made) > 1 else next(iter(made.values()))).save_to_disk(folder)
    return str(folder)


def test_a_saved_data_set_with_its_splits(tmp_path):
    two = {"prompt": "2+2=", "answer": "4"}
    path = saved(tmp_path / "sums", train=[GOOD], test=[two, {"prompt": "x", "answer": ""}])
    both = source(train=path, val=path)
    assert both.check() == []
    assert both.train_rows() == [Row(question="1+1=", ground_truth="2", data_source="sums")]
    assert both.val_sets() == {"sums": [Row(question="2+2=", ground_truth="4", data_source="sums")]}
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
    assert [row.ground_truth for row in (*given.train_rows(), *given.val_sets()["gsm8k"])] == ["3", "2"]
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "train.csv").write_text("question,answer\n1+1=,2\n")
    assert source(train=str(tmp_path / "csv")).check() == []
    assert [row.ground_truth for row in rows_of(tmp_path / "csv")] == ["2"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")  # as a model has
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


def test_columns_of_mixed_types_are_read_as_they_were_written(tmp_path):
    """Which `datasets` holds as the text of JSON."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    path = jsonl(folder / "train.jsonl", {"question": "q1", "answer": ["5", 6]}, {"question": CHAT, "answer": "2"})
    expected = [(row.question, row.ground_truth, row.structured_ground_truth) for row in rows_of(path)]
    assert [(row.question, row.ground_truth, row.structured_ground_truth) for row in rows_of(str(folder))] == expected


def test_images_of_a_data_set_are_not_opened_and_its_rows_are_left_out(tmp_path, caplog):
    """To open one takes Pillow, which need not be there; these bytes are no image."""
    image = datasets.Image()
    features = datasets.Features(
        {"question": datasets.Value("string"), "answer": datasets.Value("string"), "images": datasets.List(image)}
    )
    stored = {"bytes": b"no image", "path": None}
    records = [{"question": "1+1=", "answer": "2", "images": []}, {"question": "1?", "answer": "2", "images": [stored]}]
    table = pyarrow.Table.from_pylist(records, schema=features.arrow_schema)
    datasets.Dataset(table).save_to_disk(tmp_path / "seen")
    assert isinstance(datasets.load_from_disk(tmp_path / "seen").features["images"].feature, datasets.Image)
    (row,) = rows_of(str(tmp_path / "seen"))
    assert row.question == "1+1="
    assert "row 1: column 'images' holds what is not text, [{'bytes': b'no image', 'path': None}]" in caplog.text
