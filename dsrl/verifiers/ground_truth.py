"""What a response is compared with: the ground truth of its prompt, or a column of the prompt's row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsrl.errors import ConfigError
from dsrl.types import Prompt


def ground_truth_of(prompt: Prompt) -> str:
    """Return the prompt's ground truth as text, stripped.

    Raises ConfigError where there is none, and where it is not text but a mapping, or a list of mappings: to score such
    a row 0 would teach the model noise.
    """
    truth = prompt.ground_truth.strip()
    source = f" of data source '{prompt.data_source}'" if prompt.data_source else ""
    if any(
        isinstance(part, Mapping) for part in (prompt.structured_ground_truth, *(prompt.structured_ground_truth or ()))
    ):
        raise ConfigError(
            f"the ground truth of a row{source} is not text but {prompt.structured_ground_truth!s:.200}: "
            f"verifier=python, for tests, or verifier=function can read it. Its question begins {prompt.text[:80]!r}"
        )
    if not truth:
        raise ConfigError(
            f"a row{source} has no ground truth to compare answers with; give it reward_model.ground_truth or answer, "
            f"or remove it. Its question begins {prompt.text[:80]!r}"
        )
    return truth


def text_problem(prompt: Prompt) -> str | None:
    """Say that a prompt has no ground truth that is text; None where it has one."""
    try:
        ground_truth_of(prompt)
    except ConfigError as error:
        return str(error)
    return None


def column_of(prompt: Prompt, name: str) -> Any:
    """Return the value of column `name` of the prompt's row, or else of the row's extra_info.

    Raises ConfigError, which lists the columns, where neither has it.
    """
    inner = prompt.extra.get("extra_info")
    for columns in (prompt.extra, inner if isinstance(inner, Mapping) else {}):
        if columns.get(name) is not None:
            return columns[name]
    known = [*prompt.extra, *(inner if isinstance(inner, Mapping) else ())]
    raise ConfigError(
        f"a row of data source '{prompt.data_source}' has no column '{name}'; it has {', '.join(known) or 'none'}. "
        f"Its question begins {prompt.text[:80]!r}"
    )
