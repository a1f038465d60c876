"""Questions from parquet and JSON-lines files, in verl's row schema or with plain question and answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from dsrl.data.source import DataSource, Row
from dsrl.errors import ConfigError
from dsrl.registry import register

SUFFIXES = (".parquet", ".jsonl", ".json")


@register("data", "parquet")
@dataclass(kw_only=True)
class ParquetSource(DataSource):
    """`train` and `val` are a path or a list of paths, parquet or JSON lines. Without `val` there is no validation.

    A row has `prompt` (a list of chat messages, or text) or `question`; `reward_model.ground_truth` or `answer`; and
    may have `data_source` and `extra_info`.
    """

    train: Any = None
    val: Any = None

    def train_rows(self) -> Sequence[Row]:
        """All rows of the training files, in order."""
        return [row for path in _paths(self.train) for row in read_rows(path)]

    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """One set a file, named after it."""
        return {path.stem: list(read_rows(path)) for path in _paths(self.val)}

    def check(self) -> list[str]:
        """Files that are not given, not there, or of another type."""
        problems = DataSource.check(self)
        if not _paths(self.train):
            problems.append("data.train is not set: give a .parquet or .jsonl file, data.train=PATH")
        for key, paths in (("train", _paths(self.train)), ("val", _paths(self.val))):
            for path in paths:
                if path.suffix not in SUFFIXES:
                    problems.append(f"data.{key}={path}: expected one of {', '.join(SUFFIXES)}")
                elif not path.is_file():
                    problems.append(f"data.{key}={path}: no such file (relative paths start at {Path.cwd()})")
        return problems


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of one file. Raises ConfigError naming file, row (from 0) and field for one that cannot be used."""
    count = 0
    for count, record in enumerate(_records(path), start=1):
        yield _row(record, f"{path}, row {count - 1}", path.stem)
    if count == 0:
        raise ConfigError(f"{path} holds no rows")


def _paths(given: Any) -> list[Path]:
    return [Path(str(path)) for path in ([] if given is None else given if isinstance(given, list) else [given])]


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise ConfigError(f"{path} is not a readable parquet file: {error}") from error
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}, line {number} is not JSON: {error}") from error


def _row(record: Any, where: str, default_source: str) -> Row:
    if not isinstance(record, Mapping):
        raise ConfigError(f"{where}: expected an object with fields, found {type(record).__name__}")
    question = record.get("prompt", record.get("question"))
    if isinstance(question, list):
        if not question or not all(map(_is_message, question)):
            raise ConfigError(f"{where}: prompt must be messages with role and content, found {str(question):.200}")
        question = [{"role": message["role"], "content": message["content"]} for message in question]
    elif not _is_text(question):
        raise ConfigError(f"{where}: needs prompt (text or chat messages) or question (text), found {str(question):.200}")
    grading = record.get("reward_model")
    answer = grading.get("ground_truth") if isinstance(grading, Mapping) else None
    answer = record.get("answer") if answer is None else answer
    if answer is None or not str(answer).strip():
        raise ConfigError(f"{where}: needs reward_model.ground_truth or answer, found {answer!r}")
    used = {"prompt", "question", "answer", "reward_model", "data_source"}
    return Row(
        question=question,
        answer=str(answer),
        data_source=str(record.get("data_source") or default_source),
        extra={key: value for key, value in record.items() if key not in used},
    )


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_text(value.get("role")) and _is_text(value.get("content"))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
