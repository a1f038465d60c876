"""Turn records of any origin into rows by one schema, and deal with records that do not fit it."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsrl.data.source import Row
from dsrl.errors import ConfigError

logger = logging.getLogger(__name__)

BROKEN_ROWS = ("skip", "refuse")
"""What may be done with a record that cannot be used."""

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character, which JSON can write and neither a UTF-8 file nor a tokenizer can hold."""


@dataclass(kw_only=True)
class Schema:
    """Say in which columns a record holds its question and its ground truth.

    By default that is verl's schema: `prompt` (chat messages or text) or `question`; `reward_model.ground_truth` or
    `answer`; and, if they are there, `data_source` and `extra_info`.
    """

    question: str | None = None
    """Another column that holds the question."""
    answer: str | None = None
    """Another column that holds the ground truth."""
    answer_after: str | None = None
    """A mark, such as GSM8K's `####`: only what follows its last occurrence is the ground truth."""
    or_default: bool = False
    """Read by the default schema a record that lacks these columns or the mark, or that is one of verl's."""

    def read(self, record: Any, where: str, default_source: str) -> Row:
        """Turn a record into a row. Raises ConfigError with the place and the field if it cannot be used.

        Args:
            record: a mapping of columns, or the ValueError of a line that is not JSON.
            where: its place, for messages.
            default_source: the data source of a record that names none.
        """
        if isinstance(record, ValueError):
            raise ConfigError(f"{where}: not JSON: {record}")
        if not isinstance(record, Mapping):
            raise ConfigError(f"{where}: expected an object with fields, found {type(record).__name__}")
        if self.or_default and not self._describes(record):
            return Schema().read(record, where, default_source)
        used = {"reward_model", "data_source", self.answer or "answer"}
        used |= {self.question} if self.question else {"prompt", "question"}
        truth = self._truth(record, where)
        row = Row(
            question=self._question(record, where),
            ground_truth=self._answer(truth, where),
            structured_ground_truth=truth if isinstance(truth, Mapping | list) else None,
            data_source=str(record.get("data_source") or default_source),
            extra={key: value for key, value in record.items() if key not in used},
            where=where,
        )
        asked = json.dumps(row.question, ensure_ascii=False)
        for part, text in (("question", asked), ("answer", row.ground_truth), ("data_source", row.data_source)):
            if LONE_SURROGATE.search(text):
                raise ConfigError(f"{where}: the {part} holds half a character (a lone surrogate), {text!r:.200}")
        return row

    def _describes(self, record: Mapping[str, Any]) -> bool:
        found = [record.get(column or "") for column in (self.question, self.answer)]
        return record.get("reward_model") is None and None not in found and (self.answer_after or "") in str(found[1])

    def _question(self, record: Mapping[str, Any], where: str) -> str | list[dict[str, str]]:
        if self.question is None:
            question: Any = record.get("question") if record.get("prompt") is None else record["prompt"]
            column, needed = "prompt", "prompt (text or chat messages) or question (text)"
        else:
            question = _column(record, self.question, where)
            column, needed = self.question, f"{self.question} (text or chat messages)"
        if isinstance(question, list):
            if not question or not all(map(_is_message, question)):
                raise ConfigError(f"{where}: {column} must be messages with role and content, found {question!s:.200}")
            return [{"role": message["role"], "content": message["content"]} for message in question]
        if not _is_text(question):
            raise ConfigError(f"{where}: needs {needed}, found {question!r:.200}")
        assert isinstance(question, str)
        return question

    def _truth(self, record: Mapping[str, Any], where: str) -> Any:
        """Take the ground truth as the record holds it."""
        if self.answer is not None:
            return _column(record, self.answer, where)
        grading = record.get("reward_model")
        truth = grading.get("ground_truth") if isinstance(grading, Mapping) else None
        return record.get("answer") if truth is None else truth

    def _answer(self, truth: Any, where: str) -> str:
        """Write the ground truth as text. Raises ConfigError where there is none."""
        column, needed = self.answer or "answer", self.answer or "reward_model.ground_truth or answer"
        if not _is_answer(truth):
            raise ConfigError(f"{where}: needs {needed}, found {truth!r:.200}")
        text = ground_truth_text(truth)
        if self.answer_after:
            _, mark, after = text.rpartition(self.answer_after)
            if not mark or not after.strip():
                raise ConfigError(f"{where}: {column} needs an answer after {self.answer_after!r}, found {text!r:.200}")
            text = after.strip()
        return text


def ground_truth_text(truth: Any) -> str:
    """Write a ground truth as text: a list as its values, joined by commas, and a mapping as JSON."""
    if isinstance(truth, list):
        return ", ".join(map(_written, truth))
    if isinstance(truth, Mapping):
        return json.dumps(truth, default=str, ensure_ascii=False)
    return _written(truth)


def read_rows(records: Iterable[tuple[str, Any]], *, name: str, origin: str, schema: Schema, broken: str) -> list[Row]:
    """Turn records into rows.

    Args:
        records: each with its place, for messages.
        name: the data source of records that name none.
        origin: the file or data set that holds them, for messages.
        schema: the columns to read.
        broken: what happens to records that cannot be used. `skip` leaves them out, with a warning that names them;
            `refuse` raises at the first.

    Raises:
        ConfigError: no record can be used, or, with `refuse`, one cannot.
    """
    rows, problems = [], []
    for where, record in records:
        try:
            rows.append(schema.read(record, where, name))
        except ConfigError as error:
            if broken == "refuse":
                raise
            problems.append(str(error))
    if not rows:
        raise ConfigError("\n".join([f"{origin} holds no usable rows", *problems[:3]]))
    if problems:
        shown = "".join(f"\n  {message}" for message in problems[:3]) + ("\n  ..." if len(problems) > 3 else "")
        total = len(rows) + len(problems)
        logger.warning("%s: %d of %d rows skipped (data.broken_rows=skip):%s", origin, len(problems), total, shown)
    return rows


def fold_repeats(rows: Sequence[Row], origin: str) -> list[Row]:
    """Keep each question once, and write into `extra["repeats"]` how often it was there.

    Files for avg@k, such as those of arXiv 2604.14142, repeat each row k times. If some questions are there more often
    than others, the rows are returned as they are. A warning says what was found in `origin`.
    """
    keys = [(json.dumps(row.question, default=dict), row.ground_truth, row.data_source) for row in rows]
    counts = Counter(keys)
    times = sorted(set(counts.values()))
    if times == [1]:
        return list(rows)
    if len(times) > 1:
        told = "%s: questions stand there %d to %d times, not all equally often, so each of the %d rows counts"
        logger.warning(told, origin, times[0], times[-1], len(rows))
        return list(rows)
    logger.warning("%s: each question stands there %d times, and counts once", origin, times[0])
    first = dict(zip(reversed(keys), reversed(rows), strict=True))
    return [dataclasses.replace(first[key], extra={**first[key].extra, "repeats": times[0]}) for key in counts]


def _column(record: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in record:
        raise ConfigError(f"{where}: no field '{name}'; it has {', '.join(map(str, record))}")
    return record[name]


def _is_answer(value: Any) -> bool:
    """Tell whether a value can be a ground truth: no null, NaN (which is not equal to itself), blank text or bytes.

    Nor may a list hold one of these.
    """
    if isinstance(value, Mapping):
        return bool(value)
    if isinstance(value, list):
        return bool(value) and all(isinstance(part, list | Mapping) or _is_answer(part) for part in value)
    return not isinstance(value, bytes) and value is not None and value == value and bool(str(value).strip())


def _written(value: Any) -> str:
    """Write a value, 5555.0 as 5555: that is what pandas makes of it if another row's number is missing."""
    integral = isinstance(value, float) and value.is_integer() and abs(value) < 1e16
    return str(int(value) if integral else value)


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_text(value.get("role")) and _is_text(value.get("content"))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
