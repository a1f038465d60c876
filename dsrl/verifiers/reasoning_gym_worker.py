"""What a worker of `reasoning_gym` runs for each [task, answer, entry]: the task's own scorer."""

from __future__ import annotations

from functools import cache
from typing import Any

import reasoning_gym


def reply(request: tuple[str, str, dict[str, Any]]) -> float | str:
    """The score, or what is wrong with the task.

    An entry of a file has lists where the task had tuples, and some scorers compare with ==: the better score of both
    forms counts.
    """
    task, answer, entry = request
    try:
        score = _scorer(task)
    except ValueError as error:
        return str(error)
    best = 0.0
    for form in (entry, _with_tuples(entry)):
        try:
            best = max(best, float(score(answer, form)))
        except Exception:  # that form, or the answer, is not for this scorer
            continue
    return best


@cache
def _scorer(task: str) -> Any:
    return reasoning_gym.get_score_answer_fn(task)


def _with_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_with_tuples, value))
    return {key: _with_tuples(item) for key, item in value.items()} if isinstance(value, dict) else value
