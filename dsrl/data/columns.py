"""Find the columns of a record that hold its question and its ground truth under other names, or parts of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

QUESTION_NAMES = (
    *("prompt", "question", "problem", "messages", "conversations", "conversation", "dialogue", "chat", "query"),
    *("instruction", "input", "inputs", "task", "user", "text", "problem_statement", "question_text", "prompts"),
)
"""Usual names of the question, the likelier first."""

ANSWER_NAMES = (
    *("answer", "ground_truth", "final_answer", "expected_answer", "correct_answer", "reference_answer", "gold_answer"),
    *("answers", "target", "targets", "label", "labels", "gold", "expected", "reference", "solution", "solutions"),
    *("output", "outputs", "expected_output", "response", "completion", "result"),
)
"""Usual names of the ground truth, the likelier first."""


def suggested_columns(record: Any, question: str | None, answer: str | None) -> str:
    """Write which columns may be meant, as keys of the command line, in a line of its own.

    Args:
        record: one that lacks its question or its ground truth.
        question, answer: the columns that are read; None: those of the default schema.

    Returns:
        An empty string where the record has them, or is no mapping.
    """
    if not isinstance(record, Mapping) or not record:
        return ""
    grading = record.get("reward_model")
    graded = isinstance(grading, Mapping) and grading.get("ground_truth") is not None
    lacking: list[tuple[str, Sequence[str]]] = []
    if not _holds(record, [question] if question else ["prompt", "question"]):
        lacking.append(("question", QUESTION_NAMES))
    if not _holds(record, [answer] if answer else ["answer"]) and (answer or not graded):
        lacking.append(("answer", ANSWER_NAMES))
    found = {key: name for key, usual in lacking if (name := _first(record, usual))}
    if not lacking:
        return ""
    if found.get("question") == "instruction" and "input" in record:
        return "\n  its questions stand in two columns, 'instruction' and 'input': write them into one, 'question'"
    if len(found) == len(lacking):
        return f"\n  did you mean {' '.join(_set(key, name) for key, name in found.items())}?"
    needed = " ".join(_set(key, found.get(key, "COLUMN")) for key, _ in lacking)
    return f"\n  its columns are {', '.join(map(str, record))}; say which by {needed}"


BESIDE = ("choices", "options", "context", "passage", "article", "input")
"""Columns whose content belongs to what a question asks, unless it stands there, too."""


def columns_beside(record: Mapping[str, Any], column: str, text: str) -> list[str]:
    """Find columns with a part of what is asked that the text of the question, of another column, does not hold."""
    beside = []
    for name in BESIDE:
        if name != column and any(part not in text for part in _texts(record.get(name))):
            beside.append(name)
    return beside


def _texts(value: Any) -> list[str]:
    """List the texts in a value, such as those of `{"label": ["A", "B"], "text": ["one", "two"]}`."""
    if isinstance(value, Mapping | list):
        parts = value.values() if isinstance(value, Mapping) else value
        return [text for part in parts for text in _texts(part)]
    return [text] if value is not None and (text := str(value).strip()) else []


def _holds(record: Mapping[str, Any], names: Sequence[str]) -> bool:
    return any(record.get(name) is not None for name in names)


def _first(record: Mapping[str, Any], usual: Sequence[str]) -> str | None:
    """Find the column with the likeliest of the usual names, whatever its case."""
    columns = {re.sub(r"[\s-]+", "_", str(name).strip().lower()): str(name) for name in reversed(list(record))}
    return next((columns[name] for name in usual if name in columns and record.get(columns[name])), None)


def _set(key: str, name: str) -> str:
    return f"data.{key}={name}" if re.fullmatch(r"[\w.-]+", name) else f"'data.{key}=\"{name}\"'"
