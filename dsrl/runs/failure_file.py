"""verifier_failures.jsonl: what a verifier raised, or was lost over, response by response."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsrl.runs.lines import text_of
from dsrl.storage.disk_errors import writing
from dsrl.verifiers.failures import Failure, Failures

FILE = "verifier_failures.jsonl"
LARGEST = 2**20
"""Bytes that the file may have, about; failures after that are counted alone."""
FULL = 4000
"""Characters of a traceback, from its end, that are written."""


def append_failures(folder: Path, found: Sequence[Failures], **where: Any) -> None:
    """Add a line for each failure that is kept in full, until the file is as large as it may be.

    Args:
        folder: of the run, or of the evaluation.
        found: of one or several verifiers.
        where: what else the lines say.
    """
    path = folder / FILE
    lines = [text_of({**where, **_line(failures.verifier, each)}) for failures in found for each in failures.kept]
    if lines and (not path.exists() or path.stat().st_size < LARGEST):
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(lines)


def _line(verifier: str, failure: Failure) -> dict[str, str]:
    return {
        "verifier": verifier,
        "message": failure.message,
        "traceback": failure.traceback[-FULL:],
        "question": failure.question,
        "response": failure.response,
    }
