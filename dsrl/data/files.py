"""Read records from files: parquet, JSON lines, JSON, and delimited text, plain or compressed."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsrl.data.delimited import delimited_records
from dsrl.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

TEXT_FORMATS = (".jsonl", ".json", ".csv", ".tsv")
COMPRESSED = (".gz", ".zst")
SUFFIXES = (".parquet", *TEXT_FORMATS, *(f"{form}{packed}" for form in TEXT_FORMATS for packed in COMPRESSED))
"""How the names of files end that can be read."""

WRAPPERS = ("data", "rows", "records", "examples", "instances", "items", "train", "validation", "test")
"""Names under which a JSON object may hold a list of records."""

READABLE = f".parquet, {', '.join(TEXT_FORMATS)} (these also with {' or '.join(COMPRESSED)})"
"""`SUFFIXES`, for messages."""


def suffix_of(path: str | Path) -> str | None:
    """Say which of `SUFFIXES` the name of a file ends with, in any case; None if none."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def file_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each record of a file with its place, such as `FILE, line 3`; rows and entries count from 0, lines from 1.

    For a line that is no record, what is yielded is the ValueError that says why. Raises ConfigError for a file that
    cannot be read at all.
    """
    suffix = suffix_of(path) or path.suffix
    if suffix == ".parquet":
        return _parquet_records(path)
    text = _text(path)
    if suffix.startswith((".csv", ".tsv")):
        return delimited_records(text, path, "," if suffix.startswith(".csv") else "\t")
    return _json_records(text, path, whole=not suffix.startswith(".jsonl"))


def table_records(tables: Iterable[pyarrow.Table | pyarrow.RecordBatch]) -> Iterator[dict[str, Any]]:
    """Yield the records of Arrow tables: maps as mappings, and a float32 0.1 as 0.1 and not 0.10000000149011612."""
    import pyarrow

    for table in tables:
        for number, field in enumerate(table.schema):
            if field.type == pyarrow.float32():
                shortest = table.column(number).cast(pyarrow.string()).cast(pyarrow.float64())
                table = table.set_column(number, field.name, shortest)
        yield from table.to_pylist(maps_as_pydicts="strict")


def _text(path: Path) -> str:
    """Read a text file, uncompressed by its name's ending."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    try:
        data = _uncompressed(data, path.suffix.lower())
    except Exception as error:  # each library has errors of its own
        raise ConfigError(f"{path} cannot be uncompressed as {path.suffix}: {error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = " (it looks like UTF-16: save it as UTF-8)" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise ConfigError(f"{path} is not UTF-8 text: {error}{hint}") from error


def _uncompressed(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.decompress(data)
    if suffix != ".zst":
        return data
    import pyarrow

    with pyarrow.input_stream(pyarrow.py_buffer(data), compression="zstd") as stream:
        return bytes(stream.read())


def _json_records(text: str, path: Path, *, whole: bool) -> Iterator[tuple[str, Any]]:
    """Yield the records of JSON lines, or, where the text may be JSON as a `whole`, of a list or of one object.

    An object that holds its records under a name such as `data` is that list.
    """
    if whole:
        content = _json(text)
        place = str(path)
        if isinstance(content, dict) and len(lists := [key for key in WRAPPERS if _are_records(content.get(key))]) == 1:
            logger.warning("%s: its records are those under '%s'", path, lists[0])
            place, content = f"{path}, {lists[0]}", content[lists[0]]
        if isinstance(content, list | dict):
            records = content if isinstance(content, list) else [content]
            yield from ((f"{place}, entry {number}", record) for number, record in enumerate(records))
            return
        if isinstance(_json(text.lstrip().partition("\n")[0]), ValueError):
            raise ConfigError(f"{path} is not JSON: neither a list of objects nor an object a line ({content})")
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines() also breaks inside JSON strings
        if line.strip():
            record = _json(line)
            is_json = not isinstance(record, ValueError)
            yield f"{path}, line {number}", record if is_json else ValueError(f"not JSON: {record}")


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(record, dict) for record in value)


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
