"""Read records from parquet, JSON-lines and JSON files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsrl.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".parquet", ".jsonl", ".json")


def file_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each record of a file with its place, such as `FILE, line 3`; rows and entries count from 0, lines from 1.

    For a line that cannot be read as JSON, the record is the ValueError that says why. Raises ConfigError for a file
    that cannot be read at all.
    """
    if path.suffix == ".parquet":
        yield from _parquet_records(path)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix == ".json":
        content = _json(text)
        if isinstance(content, list | dict):
            records = content if isinstance(content, list) else [content]
            yield from ((f"{path}, entry {number}", record) for number, record in enumerate(records))
            return
        if isinstance(_json(text.lstrip().partition("\n")[0]), ValueError):
            raise ConfigError(f"{path} is not JSON: neither a list of objects nor an object a line ({content})")
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines() also breaks inside JSON strings
        if line.strip():
            yield f"{path}, line {number}", _json(line)


def table_records(tables: Iterable[pyarrow.Table | pyarrow.RecordBatch]) -> Iterator[dict[str, Any]]:
    """Yield the records of Arrow tables: maps as mappings, and a float32 0.1 as 0.1 and not 0.10000000149011612."""
    import pyarrow

    for table in tables:
        for number, field in enumerate(table.schema):
            if field.type == pyarrow.float32():
                shortest = table.column(number).cast(pyarrow.string()).cast(pyarrow.float64())
                table = table.set_column(number, field.name, shortest)
        yield from table.to_pylist(maps_as_pydicts="strict")


def _parquet_records(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            records = list(table_records(file.iter_batches()))
    except Exception as error:  # each type of column has errors of its own, such as an unknown time zone
        raise ConfigError(f"{path} is not a readable parquet file: {str(error) or type(error).__name__}") from error
    yield from ((f"{path}, row {number}", record) for number, record in enumerate(records))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:  # also of a number with thousands of digits
        return error
    except RecursionError:
        return ValueError("nested too deeply")
