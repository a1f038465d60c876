"""Draw answers to the problems of a world, with or without a push towards retries, and see what P(y) knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsrl.data.encoding import PromptEncoder
from dsrl.models.policy import Policy
from dsrl.worlds.world import RETRY_MARK

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH = 250
"""Answers that are drawn and scored together."""

KNOWN = 0.5
"""P(y) can know a token where it gives it at least this part of the probability that P(y|x) gives it."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """N answers, one to each question, and their tokens [N, T]."""

    questions: Sequence[str]
    ground_truths: Sequence[str]
    texts: Sequence[str]
    tokens: Tensor
    mask: Tensor
    """[N, T] bool, true on the tokens of an answer, the end token included."""


@torch.no_grad()
def draw_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[tuple[str, str]],
    max_new_tokens: int,
    *,
    seed: int = 0,
    bias: float = 0.0,
) -> Answers:
    """Draw one answer to each problem at temperature 1, with a bias on the logit of `?`.

    The problems' questions must all have the same number of tokens.
    """
    mark = tokenizer.convert_tokens_to_ids(RETRY_MARK)
    end = tokenizer.eos_token_id
    tokens = torch.full((len(problems), max_new_tokens), end)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for first in range(0, len(problems), BATCH):
            questions = [question for question, _ in problems[first : first + BATCH]]
            prompts = tokenizer(questions, return_tensors="pt", return_token_type_ids=False)
            found = model.generate(  # type: ignore[operator]
                **prompts,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=max_new_tokens,
                sequence_bias={(mark,): bias} if bias else None,
                pad_token_id=end,
            )[:, prompts["input_ids"].shape[1] :]
            tokens[first : first + BATCH, : found.shape[1]] = found
    ends = tokens == end
    mask = ends.cumsum(-1) - ends.long() == 0  # up to the first end token, which counts
    longest = int(mask.sum(-1).max())
    return Answers(
        questions=[question for question, _ in problems],
        ground_truths=[answer for _, answer in problems],
        texts=tokenizer.batch_decode(tokens, skip_special_tokens=True),
        tokens=tokens[:, :longest],
        mask=mask[:, :longest],
    )


@torch.no_grad()
def known_share(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, answers: Answers) -> float:
    """Compute the share of the answers' tokens that P(y) can know: P(y_t) is at least half of P(y_t|x)."""
    policy, encoder = Policy(model), PromptEncoder(tokenizer=tokenizer)
    known = total = 0
    for first in range(0, len(answers.texts), BATCH):
        part = slice(first, first + BATCH)
        tokens, mask = answers.tokens[part], answers.mask[part]
        conditional = policy([encoder.encode(question) for question in answers.questions[part]], tokens, mask)
        marginal = policy([(encoder.start_token_id,)] * len(tokens), tokens, mask)
        known += int((((marginal - conditional).exp() >= KNOWN) & mask).sum())
        total += int(mask.sum())
    return known / total
