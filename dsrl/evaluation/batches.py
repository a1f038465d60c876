"""Cut the questions of an evaluation into batches, each sampled, checked and written as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dsrl.data.encoding import PromptEncoder
from dsrl.data.prompts import prompt_of
from dsrl.data.source import Row
from dsrl.evaluation.config import EvaluationConfig
from dsrl.evaluation.samples import Asked
from dsrl.types import Prompt

K = 8
QUESTIONS = 16
"""Questions of a batch that a sampler decodes as it is given."""
ROUNDS = 16
"""How often the responses of a batch fill the slots of an engine, where there are enough questions.

Slots are empty while the last responses of a batch end. By a simulation with 256 slots, and responses of 2,000 tokens
on average and 8,192 at most, batches of 2 rounds take 2.7 times as long as slots that are always full, 16 rounds 1.2.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Questions of one set that are sampled together, with k responses to each.

    `number` is the batch's place in the evaluation, `first` the place of its first question in the set.
    """

    number: int
    set: str
    first: int
    rows: Sequence[Row]
    k: int

    def prompts(self, encoder: PromptEncoder) -> list[Prompt]:
        """Encode the questions. A prompt's position is its place in the set, so that batches draw apart."""
        return [prompt_of(row, encoder, index=place, position=place) for place, row in enumerate(self.rows, self.first)]

    def asked(self, encoder: PromptEncoder) -> Iterator[Asked]:
        """Yield what the batch's samples say of themselves, in order."""
        for prompt in self.prompts(encoder):
            for number in range(self.k):
                yield self.set, prompt.position, number, prompt.text, prompt.ground_truth


def batches_of(sets: Mapping[str, Sequence[Row]], config: EvaluationConfig) -> list[Batch]:
    """Cut each set into batches, in order."""
    batches: list[Batch] = []
    for name, rows in sets.items():
        repeats = {int(row.extra.get("repeats", K)) for row in rows}
        k = config.k or (repeats.pop() if len(repeats) == 1 else K)
        size = _questions_per_batch(config, len(rows), k)
        for first in range(0, len(rows), size):
            batches.append(Batch(number=len(batches), set=name, first=first, rows=rows[first : first + size], k=k))
    return batches


def _questions_per_batch(config: EvaluationConfig, questions: int, k: int) -> int:
    """Choose how many questions a batch of a set has: for an engine that decodes `max_num_seqs` responses at once and
    lets others queue, enough to keep it full, but no more than each device's share of the set.
    """
    if config.questions_per_batch is not None:
        return config.questions_per_batch
    slots: int | None = getattr(config.sampler, "max_num_seqs", None)
    return QUESTIONS if slots is None else max(1, min(-(-ROUNDS * slots // k), -(-questions // config.devices)))
