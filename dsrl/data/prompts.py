"""Turn a row, or a question given as text, into the prompt that a sampler and a verifier read."""

from __future__ import annotations

from collections.abc import Sequence

from dsrl.data.encoding import PromptEncoder
from dsrl.data.source import Messages, Row
from dsrl.types import Prompt


def prompt_of(row: Row, encoder: PromptEncoder, *, index: int, position: int) -> Prompt:
    """Encode a row's question, and keep beside it what verifiers need.

    Args:
        row: a row of a data source.
        encoder: how questions become token ids.
        index: the row's place in the data.
        position: the prompt's place in the batch of all ranks; random numbers depend on it.
    """
    text, token_ids, truncated = encoder.read(row.question)
    return Prompt(
        position=position,
        row=index,
        text=text,
        token_ids=token_ids,
        truncated=truncated,
        messages=None if isinstance(row.question, str) else tuple(row.question),
        ground_truth=row.ground_truth,
        structured_ground_truth=row.structured_ground_truth,
        data_source=row.data_source,
        extra=row.extra,
    )


def prompts_of(questions: Sequence[str | Messages | Row], encoder: PromptEncoder) -> list[Prompt]:
    """Encode a batch of questions by themselves: text, chat messages, or rows. Positions count from 0."""
    rows = [
        question if isinstance(question, Row) else Row(question=question, ground_truth="", data_source="")
        for question in questions
    ]
    return [prompt_of(row, encoder, index=place, position=place) for place, row in enumerate(rows)]
