"""What a worker of `reasoning_gym` runs for each [task, answer, entry]: the task's own scorer."""

from __future__ import annotations

from functools import cache
from typing import Any

import reasoning_gym


def reply(request: tuple[str, str, dict[str, Any]]) -> float | str:
    """The score, or what is wrong with the task."""
    task, answer, entry = request
    try:
        score = _scorer(task)
    except ValueError as error:
        return str(error)
    return float(score(answer, entry))


@cache
def _scorer(task: str) -> Any:
    return reasoning_gym.get_score_answer_fn(task)
