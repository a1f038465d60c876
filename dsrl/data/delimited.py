"""Read records from delimited text: .csv and .tsv, where everything is text."""

from __future__ import annotations

import csv
import io
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from dsrl.errors import ConfigError

logger = logging.getLogger(__name__)

DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
FLOAT = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")


def delimited_records(text: str, path: Path, delimiter: str) -> Iterator[tuple[str, dict[str, str] | ValueError]]:
    """Yield each record with the line that it begins in, counted from 1; the first line names the columns.

    A line with fields more or less than columns is no record, but the ValueError that says so. Where all values of a
    column are written as floats, as pandas does with whole numbers of a column that lacks some, 5555.0 is 5555.
    Raises ConfigError for a file without columns, or with quotes that do not end.
    """
    lines = _lines(text, path, delimiter)
    if not lines:
        raise ConfigError(f"{path} is empty: its first line must name the columns")
    _, columns = lines[0]
    columns = [column.strip() for column in columns]
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise ConfigError(f"{path}: its first line names the column '{twice[0]}' twice")
    if len(columns) == 1 and (other := next((sign for sign in DELIMITERS if sign in columns[0]), None)):
        raise ConfigError(
            f"{path}: its first line is one column, {columns[0]!r:.100}; fields must be separated by "
            f"{DELIMITERS[delimiter]}, not by {DELIMITERS[other]}"
        )
    fitting = [values for _, values in lines[1:] if len(values) == len(columns)]
    floats = [number for number in range(len(columns)) if _are_floats([values[number] for values in fitting])]
    if floats:
        named = ", ".join(f"'{columns[number]}'" for number in floats)
        logger.warning(
            "%s: whole numbers of the column %s are written as floats, and 5555.0 is read as 5555", path, named
        )
    for line, values in lines[1:]:
        where = f"{path}, line {line}"
        if len(values) != len(columns):
            yield (
                where,
                ValueError(
                    f"has {len(values)} fields, and the first line names {len(columns)} columns; a field that holds "
                    f"{DELIMITERS[delimiter]} needs quotes"
                ),
            )
            continue
        for number in floats:
            values[number] = values[number].removesuffix(".0")
        yield where, dict(zip(columns, values, strict=True))


def _lines(text: str, path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """Read the fields of each line that is not blank, with its number."""
    found, before = [], csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for values in reader:
            if values and (len(values) > 1 or values[0].strip()):
                found.append((line, values))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ConfigError(f"{path}, line {line}: {error}; quotes within a quoted field are doubled") from error
    finally:
        csv.field_size_limit(before)
    return found


def _are_floats(values: list[str]) -> bool:
    """Tell whether values are floats as Python writes them, whole ones among them; blanks do not count."""
    numbers = [value for value in values if value.strip()]
    return (
        any(value.endswith(".0") for value in numbers)
        and all(FLOAT.fullmatch(value) for value in numbers)
        and all(value == repr(float(value)) for value in numbers)
    )
