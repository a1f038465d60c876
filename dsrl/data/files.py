"""Records from parquet, JSON-lines and JSON files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsrl.errors import ConfigError

SUFFIXES = (".parquet", ".jsonl", ".json")


def file_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Each record of a file, and where it stands: rows and entries count from 0, lines from 1.

    A line that is not JSON comes as its JSONDecodeError. Raises ConfigError for a file that cannot be read at all.
    """
    if path.suffix == ".parquet":
        yield from _parquet_records(path)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from error
    if path.suffix == ".json" and text.lstrip().startswith("["):
        whole = _json(text)
        if isinstance(whole, json.JSONDecodeError):
            raise ConfigError(f"{path} is not JSON: {whole}") from whole
        yield from ((f"{path}, entry {number}", record) for number, record in enumerate(whole))
        return
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines() also breaks inside JSON strings
        if line.strip():
            yield f"{path}, line {number}", _json(line)


def _parquet_records(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            records = [record for batch in file.iter_batches() for record in batch.to_pylist()]
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError(f"{path} is not a readable parquet file: {error}") from error
    yield from ((f"{path}, row {number}", record) for number, record in enumerate(records))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return error
