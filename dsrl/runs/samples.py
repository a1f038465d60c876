"""What samples.jsonl says of responses: those of an iteration, with how they were used, and those of a validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dsrl.loop.collector import RolloutBatch
from dsrl.loop.experience import Experience
from dsrl.loop.logged import logged_rows, token_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def training_samples(
    experience: Experience, count: int, tokenizer: PreTrainedTokenizerBase
) -> Iterator[dict[str, Any]]:
    """Describe `count` responses of an iteration in plain values.

    Each says what the verifier found, its advantage (in the first term of the objective), whether some term kept it,
    and, where they were scored, its first tokens with log-probabilities and entropies in both spaces, in nats.
    """
    batch = experience.batch
    advantages, kept = experience.choosing_terms[0].advantages, experience.kept
    for place, row in enumerate(logged_rows(batch.rollouts, count)):
        yield {
            **_numbers(batch, row),
            **batch.record(row),
            "advantage": float(advantages[row]),
            "kept": bool(kept[row]),
            **_tokens(experience, place, row, tokenizer),
        }


def validation_samples(name: str, batch: RolloutBatch, count: int) -> Iterator[dict[str, Any]]:
    """Describe `count` responses to questions of the validation set of this name."""
    for row in logged_rows(batch.rollouts, count):
        yield {"set": name, **_numbers(batch, row), **batch.record(row)}


def _numbers(batch: RolloutBatch, row: int) -> dict[str, int]:
    """The question's place in its data, and the response's among those to it."""
    return {
        "question": batch.rollouts.prompt_of(row).row,
        "response_number": row % batch.rollouts.responses_per_prompt,
    }


def _tokens(experience: Experience, place: int, row: int, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    if not experience.logged:
        return {}
    rollouts = experience.batch.rollouts
    count = min(int(rollouts.lengths[row]), *(scores.logprobs.shape[1] for scores in experience.logged.values()))

    def rounded(values: Tensor) -> list[float]:
        return [round(value, 4) for value in values[place, :count].tolist()]

    return {
        "tokens": token_texts(tokenizer, rollouts.tokens[row, :count].tolist()),
        "logprobs": {space: rounded(scores.logprobs) for space, scores in experience.logged.items()},
        "entropies": {space: rounded(scores.entropy) for space, scores in experience.logged.items()},
    }
