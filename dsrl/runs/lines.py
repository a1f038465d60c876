"""The lines of metrics.jsonl and samples.jsonl: read them, those of older versions, too, and write one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def read_lines(path: Path) -> list[Line]:
    """Read the lines of a file of the run folder; none where there is no file.

    A last line that a kill cut short is left out. In a validation's line `iteration` is that of the iteration before
    it, -1 before the first, and `iterations_done` is one more. Up to version 0.2 such a line had that number alone, as
    `iteration`; it is read as it would be written today.
    """
    if not path.exists():
        return []
    found = []
    for text in path.read_text(encoding="utf-8").split("\n"):  # splitlines() also breaks inside JSON strings
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        found.append(as_today(line))
    return found


def text_of(line: Mapping[str, Any]) -> str:
    """Write a line as strict JSON, with its end; a number that is not finite is null."""
    return json.dumps(strict(line), ensure_ascii=False, allow_nan=False) + "\n"


def strict(value: Any) -> Any:
    """Give plain values as strict JSON can have them, at any depth: a number that is not finite is None."""
    if isinstance(value, Mapping):
        return {key: strict(part) for key, part in value.items()}
    if isinstance(value, list):
        return [strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_validation(line: Line) -> bool:
    """Whether a line of metrics.jsonl is that of a validation, of any version."""
    return "reward/mean" not in line and any(key.startswith("val/") for key in line)


def as_today(line: Line) -> Line:
    """Give a line as it would be written today; see `read_lines`."""
    if not is_validation(line) or "iterations_done" in line:
        return line
    done = line["iteration"]
    return {"iteration": done - 1, "iterations_done": done, **{key: line[key] for key in line if key != "iteration"}}
