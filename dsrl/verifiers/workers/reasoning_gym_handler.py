"""Runs in a worker of verifier `reasoning_gym`: scores an answer by the scorer of its task."""

from __future__ import annotations

from functools import cache
from typing import Any

import reasoning_gym


def reply(request: tuple[str, str, dict[str, Any]]) -> float | str:
    """Return the score of (task, answer, entry), or a message where there is no such task.

    An entry that was read from a file has lists where the task had tuples, and some scorers compare with ==. So both
    forms are scored, and the better score counts.
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
        except Exception:  # the scorer cannot read the answer, or the entry in this form
            continue
    return best


@cache
def _scorer(task: str) -> Any:
    return reasoning_gym.get_score_answer_fn(task)


def _with_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_with_tuples, value))
    return {key: _with_tuples(item) for key, item in value.items()} if isinstance(value, dict) else value
