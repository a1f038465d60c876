"""What samples.jsonl says of responses: those of an iteration, with how they were used, and those of a validation; and
what validations.jsonl says of each question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dsrl.loop.collector import RolloutBatch
from dsrl.loop.experience import Experience
from dsrl.loop.logged import logged_rows, token_texts
from dsrl.thoughts import totals_of
from dsrl.types import CORRECT_THRESHOLD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def training_samples(
    experience: Experience, count: int, tokenizer: PreTrainedTokenizerBase
) -> Iterator[dict[str, Any]]:
    """Describe `count` responses of an iteration in plain values.

    Each says what the verifier found, its advantage (in the first term of the objective), whether some term kept it,
    and, where they were scored, its first tokens: their log-probabilities and entropies in both spaces, in nats, how
    the update pulled on them, and what it changed.
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


def answered_questions(batch: RolloutBatch) -> Iterator[dict[str, Any]]:
    """Say of each question of a validation how its k responses were: the mean reward of those that have one, how many
    are right, their tokens, and their thoughts by class.
    """
    k, lengths = batch.params.responses_per_prompt, batch.rollouts.lengths.tolist()
    for number, (prompt, rewards) in enumerate(zip(batch.rollouts.prompts, batch.rewards, strict=True)):
        own = slice(number * k, (number + 1) * k)
        found = totals_of(batch.thoughts[own], rewards.tolist(), lengths[own])
        yield {
            "question": prompt.row,
            "reward": float(rewards.double().nanmean()),
            "right": int((rewards > CORRECT_THRESHOLD).sum()),
            "tokens": sum(lengths[own]),
            "thoughts": {name: totals.thoughts for name, totals in found.items()},
        }


def questions_line(asked: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put the questions of a validation into lists, in the order of the data: a line of validations.jsonl."""
    ordered = sorted(asked, key=lambda own: own["question"])
    kinds = ordered[0]["thoughts"] if ordered else ()
    return {
        **{key: [own[key] for own in ordered] for key in ("question", "reward", "right", "tokens")},
        "thoughts": {name: [own["thoughts"][name] for own in ordered] for name in kinds},
    }


def _numbers(batch: RolloutBatch, row: int) -> dict[str, int]:
    """The question's place in its data, and the response's among those to it."""
    return {
        "question": batch.rollouts.prompt_of(row).row,
        "response_number": row % batch.rollouts.responses_per_prompt,
    }


def _tokens(experience: Experience, place: int, row: int, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    logged, rollouts = experience.logged, experience.batch.rollouts
    if logged is None:
        return {}
    count = min(int(rollouts.lengths[row]), logged.length)

    def rounded(values: Tensor) -> list[float]:
        return [round(value, 4) for value in values[place, :count].tolist()]

    changes = {space: after - logged.before[space].logprobs for space, after in logged.after.items()}
    pulls = logged.pulls.get(row, {})
    clipped = {space: own.clipped.nonzero()[:, 0].tolist() for space, own in pulls.items()}
    return {
        "tokens": token_texts(tokenizer, rollouts.tokens[row, :count].tolist()),
        "logprobs": {space: rounded(scores.logprobs) for space, scores in logged.before.items()},
        "entropies": {space: rounded(scores.entropy) for space, scores in logged.before.items()},
        "changes": {space: _figures(values[place, :count]) for space, values in changes.items()},
        "pulls": {space: _figures(own.pull) for space, own in pulls.items()},
        "clipped": {space: places for space, places in clipped.items() if places},
    }


def _figures(values: Tensor) -> list[float]:
    """The numbers with three digits each, since they differ by orders of magnitude."""
    return [float(f"{value:.3g}") for value in values.tolist()]
