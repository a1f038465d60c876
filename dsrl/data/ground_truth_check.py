"""Check the ground truths of all rows once, before anything is sampled."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from dsrl.data.source import Row
from dsrl.errors import ConfigError
from dsrl.types import Prompt
from dsrl.verifiers.verifier import SupportsScore, ground_truth_problem, summary_of

logger = logging.getLogger(__name__)
SHOWN = 3
"""Rows that a message names."""


def check_ground_truths(verifier: SupportsScore, rows: Sequence[Row], label: str, *, log: bool = True) -> None:
    """Refuse rows whose ground truth a verifier cannot compare with answers.

    Whatever `data.broken_rows` says: nothing is wrong with such a row, another verifier can use it.

    Args:
        verifier: any verifier; one that does not say what it can hold refuses nothing.
        rows: of a data set.
        label: where they come from, such as data.train, for messages.
        log: whether to log what the verifier makes of the rows, as `auto` says.

    Raises:
        ConfigError: how many rows there are of this kind, and the first of them, with file and row, and the verifier
            that can.
    """
    prompts = [_prompt(row, place) for place, row in enumerate(rows)]
    found = [(place, ground_truth_problem(verifier, prompt)) for place, prompt in enumerate(prompts)]
    problems = [f"{rows[place].place or f'{label}, row {place}'}: {problem}" for place, problem in found if problem]
    if problems:
        shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN]) + "\n  ..." * (len(problems) > SHOWN)
        raise ConfigError(
            f"{label}: the verifier cannot use {len(problems):,} of {len(rows):,} rows; choose another, or remove "
            f"them:{shown}"
        )
    for line in summary_of(verifier, prompts) if log else ():
        logger.warning("%s: %s", label, line)


def _prompt(row: Row, place: int) -> Prompt:
    """A prompt with all that a verifier reads, and without tokens."""
    return Prompt(
        position=place,
        row=place,
        text=row.question_text,
        token_ids=(),
        ground_truth=row.ground_truth,
        structured_ground_truth=row.structured_ground_truth,
        data_source=row.data_source,
        extra=row.extra,
    )
