"""Questions from parquet and JSON-lines files, in verl's row schema or with plain question and answer."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from dsrl.data.source import DataSource, Row
from dsrl.errors import ConfigError
from dsrl.registry import register

logger = logging.getLogger(__name__)

SUFFIXES = (".parquet", ".jsonl", ".json")


@register("data", "parquet")
@dataclass(kw_only=True)
class ParquetSource(DataSource):
    """`train` and `val` are a path or a list of paths, parquet or JSON lines. Without `val` there is no validation.

    A row has `prompt` (a list of chat messages, or text) or `question`; `reward_model.ground_truth` or `answer`; and
    may have `data_source` and `extra_info`. broken_rows: `skip` leaves out rows without these and says which; `refuse`
    ends the run at the first.
    """

    train: Any = None
    val: Any = None
    broken_rows: str = "skip"

    def __post_init__(self) -> None:
        if self.broken_rows not in ("skip", "refuse"):
            raise ConfigError(f"data.broken_rows={self.broken_rows}: allowed are skip, refuse")

    def train_rows(self) -> Sequence[Row]:
        """All rows of the training files, in order."""
        return [row for path in _paths(self.train) for row in self._rows(path)]

    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """One set a file, named after it."""
        return {path.stem: self._rows(path) for path in _paths(self.val)}

    def _rows(self, path: Path) -> list[Row]:
        rows, broken = [], []
        for where, record in _records(path):
            try:
                rows.append(_row(record, where, path.stem))
            except ConfigError as error:
                if self.broken_rows == "refuse":
                    raise
                broken.append(str(error))
        if not rows:
            raise ConfigError("\n".join([f"{path} holds no usable rows", *broken[:3]]))
        if broken:
            shown = "".join(f"\n  {message}" for message in broken[:3]) + ("\n  ..." if len(broken) > 3 else "")
            total = len(rows) + len(broken)
            logger.warning("%s: %d of %d rows skipped (data.broken_rows=skip):%s", path, len(broken), total, shown)
        return rows

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
        for name, count in Counter(path.stem for path in _paths(self.val)).items():
            if count > 1:
                problems.append(f"data.val: {count} files are called {name}, which would be the name of each set")
        return problems


def _paths(given: Any) -> list[Path]:
    return [Path(str(path)) for path in ([] if given is None else given if isinstance(given, list) else [given])]


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """Each record of a file, and where it stands (rows from 0, lines from 1)."""
    if path.suffix == ".parquet":
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                records = [record for batch in file.iter_batches() for record in batch.to_pylist()]
        except (pyarrow.ArrowException, OSError) as error:
            raise ConfigError(f"{path} is not a readable parquet file: {error}") from error
        yield from ((f"{path}, row {number}", record) for number, record in enumerate(records))
        return
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines() also breaks inside JSON strings
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}, line {number}", _json(line)


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return error


def _row(record: Any, where: str, default_source: str) -> Row:
    if isinstance(record, json.JSONDecodeError):
        raise ConfigError(f"{where}: not JSON: {record}")
    if not isinstance(record, Mapping):
        raise ConfigError(f"{where}: expected an object with fields, found {type(record).__name__}")
    question: Any = record.get("question") if record.get("prompt") is None else record["prompt"]
    if isinstance(question, list):
        if not question or not all(map(_is_message, question)):
            raise ConfigError(f"{where}: prompt must be messages with role and content, found {question!s:.200}")
        question = [{"role": message["role"], "content": message["content"]} for message in question]
    elif not _is_text(question):
        raise ConfigError(f"{where}: needs prompt (text or chat messages) or question (text), found {question!s:.200}")
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
