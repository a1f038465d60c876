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

from dsrl.data.beside_text import refuse_beside_text
from dsrl.data.chats import Chat, parse_text, question_of
from dsrl.data.columns import columns_beside, suggested_columns
from dsrl.data.last_turn import end_question, ends_with_assistant
from dsrl.data.source import Row
from dsrl.errors import ConfigError, nearest

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
    last_turn: str = "auto"
    """What happens to a last turn by the assistant; see `dsrl.data.last_turn`."""

    def read(self, record: Any, where: str, default_source: str, read_as: Counter[str] | None = None) -> Row:
        """Turn a record into a row. Raises ConfigError with the place and the field if it cannot be used.

        Args:
            record: a mapping of columns, or the ValueError that says why a line is none.
            where: its place, for messages.
            default_source: the data source of a record that names none.
            read_as: counts what was read as something else than it stands there as; see `question_of`.
        """
        if isinstance(record, ValueError):
            raise ConfigError(f"{where}: {record}")
        if not isinstance(record, Mapping):
            raise ConfigError(f"{where}: expected an object with fields, found {type(record).__name__}")
        if self.or_default and not self._describes(record):
            return Schema(last_turn=self.last_turn).read(record, where, default_source, read_as)
        used = {"reward_model", "data_source", self.answer or "answer"}
        used |= {self.question} if self.question else {"prompt", "question"}
        try:
            question = self._question(record, Counter() if read_as is None else read_as)
            truth = self._truth(record)
            answer = self._answer(truth)
            refuse_beside_text(record, question)
            question = end_question(question, answer, self.last_turn)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        row = Row(
            place=where,
            question=question,
            ground_truth=answer,
            structured_ground_truth=truth if isinstance(truth, Mapping | list) else None,
            data_source=str(record.get("data_source") or default_source),
            extra={key: value for key, value in record.items() if key not in used},
        )
        asked = json.dumps(row.question, ensure_ascii=False)
        for part, text in (("question", asked), ("answer", row.ground_truth), ("data_source", row.data_source)):
            if LONE_SURROGATE.search(text):
                raise ConfigError(f"{where}: the {part} holds half a character (a lone surrogate), {text!r:.200}")
        return row

    def _describes(self, record: Mapping[str, Any]) -> bool:
        found = [record.get(column or "") for column in (self.question, self.answer)]
        return record.get("reward_model") is None and None not in found and (self.answer_after or "") in str(found[1])

    def _question(self, record: Mapping[str, Any], read_as: Counter[str]) -> str | Chat:
        if self.question is None:
            column = "question" if record.get("prompt") is None and record.get("question") is not None else "prompt"
            value, needed = record.get(column), "prompt (text or chat messages) or question (text)"
        else:
            column, value = self.question, _column(record, self.question)
            needed = f"{self.question} (text or chat messages)"
        question = question_of(value, column, read_as)
        if question is None:
            raise ConfigError(f"needs {needed}, found {value!r:.200}")
        text = question if isinstance(question, str) else "\n".join(message["content"] for message in question)
        for beside in columns_beside(record, column, text):
            read_as[f"have a column '{beside}' that their question, in '{column}', does not hold; it is not asked"] += 1
        return question

    def _truth(self, record: Mapping[str, Any]) -> Any:
        """Take the ground truth as the record holds it."""
        if self.answer is not None:
            return _column(record, self.answer)
        grading = record.get("reward_model")
        grading = parse_text(grading) if isinstance(grading, str) else grading  # as in a .csv
        truth = grading.get("ground_truth") if isinstance(grading, Mapping) else None
        return record.get("answer") if truth is None else truth

    def _answer(self, truth: Any) -> str:
        """Write the ground truth as text. Raises ConfigError where there is none."""
        column, needed = self.answer or "answer", self.answer or "reward_model.ground_truth or answer"
        if not _is_answer(truth):
            raise ConfigError(f"needs {needed}, found {truth!r:.200}")
        text = ground_truth_text(truth)
        if self.answer_after:
            _, mark, after = text.rpartition(self.answer_after)
            if not mark or not after.strip():
                raise ConfigError(f"{column} needs an answer after {self.answer_after!r}, found {text!r:.200}")
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
    rows: list[Row] = []
    problems: list[str] = []
    read_as: Counter[str] = Counter()
    hint = ""
    for where, record in records:
        said = Counter[str]()
        try:
            rows.append(schema.read(record, where, name, said))
        except ConfigError as error:
            hint = hint or suggested_columns(record, schema.question, schema.answer)
            if broken == "refuse":
                raise ConfigError(f"{error}{'' if rows else hint}") from error
            problems.append(str(error))
        else:
            read_as.update(said.keys())
    if not rows:
        raise ConfigError("\n".join([f"{origin} holds no usable rows", *problems[:3]]) + hint)
    say_skipped(problems, len(rows), origin)
    if continued := sum(ends_with_assistant(row.question) for row in rows):
        read_as[
            "end with a turn by the assistant, which the model goes on with (verifiers see what comes after it; "
            "data.last_turn=drop asks without that turn, refuse takes no such row)"
        ] = continued
    for what, count in read_as.items():
        logger.warning("%s: %d of %d rows %s", origin, count, len(rows), what)
    return rows


def say_skipped(problems: Sequence[str], kept: int, origin: str) -> None:
    """Warn of rows that were left out, with the first three reasons; `kept` is how many others there are."""
    if problems:
        shown = "".join(f"\n  {message}" for message in problems[:3]) + ("\n  ..." if len(problems) > 3 else "")
        total = kept + len(problems)
        logger.warning("%s: %d of %d rows skipped (data.broken_rows=skip):%s", origin, len(problems), total, shown)


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


def _column(record: Mapping[str, Any], name: str) -> Any:
    if name not in record:
        columns = [str(column) for column in record]
        raise ConfigError(f"no field '{name}'; it has {', '.join(columns)}.{nearest(name, columns)}")
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
