"""Level 0: what P(y) and P(y|x) would each do to the logits of a token, by forward passes alone.

The gradient of log p(y) with respect to logits is g = 1[v = y] - p(v). With p_c given the question and p_m without it,

    <g_c, g_m> = 1 - p_c(y) - p_m(y) + sum_v p_c(v) p_m(v)  >=  (1 - p_c(y)) (1 - p_m(y))  >=  0.

So in logits the two never pull apart; whatever does comes from the way back through the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from dsrl.loop.micro_batches import MicroBatch, in_micro_batches
from dsrl.loop.probe import Subject
from dsrl.models.head import CHUNK_BYTES
from dsrl.models.rows import lay_out
from dsrl.probes.by_prompt import Sums, sums_of

PROBABILITIES = (0.0, 0.1, 0.5, 0.9, 0.99, math.inf)
"""Edges of the bins of p_c and p_m."""
POSITIONS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, math.inf)
"""Edges of the bins of a token's place in its response, from 0."""


class TokenPairs(NamedTuple):
    """Tokens in both spaces, each [N, T]; 0 off the mask.

    Fields: log p_c(y) and log p_m(y) in nats; the inner product of the two gradients in logits (those that the
    temperature has divided), and the squared norm of each.
    """

    given: Tensor
    alone: Tensor
    inner: Tensor
    given_square: Tensor
    alone_square: Tensor

    @property
    def cosine(self) -> Tensor:
        """Cosine of the two gradients; 0 where one of them vanishes."""
        norms = (self.given_square * self.alone_square).sqrt()
        return (self.inner / norms.clamp_min(1e-30)).where(norms > 0, 0.0)


@torch.no_grad()
def compare_tokens(subject: Subject) -> TokenPairs:
    """Compare both spaces on every token of this rank's responses, by two forwards of each. A collective."""
    scorer, batch = subject.scorer, subject.experience.batch
    view = scorer.view("conditional", batch)
    every = torch.ones(len(view.contexts), dtype=torch.bool)
    layout = replace(scorer.layout, tokens=max(1, scorer.micro_batch_tokens // 2))  # each is there twice
    nothing = torch.zeros(*view.mask.shape, len(TokenPairs._fields))
    found = in_micro_batches(view, every, layout, partial(_compare, subject), nothing)
    return TokenPairs(*found.double().unbind(-1))


def _compare(subject: Subject, micro_batch: MicroBatch) -> Tensor:
    """The pairs [n, T, 5] of a micro-batch: one forward in which each response is there after both contexts."""
    scorer, view = subject.scorer, micro_batch.view
    count = len(view.contexts)
    together = micro_batch.together or [[number] for number in range(count)]
    rows = lay_out(
        [*view.contexts, *[(scorer.encoder.start_token_id,)] * count],
        view.tokens.repeat(2, 1),
        view.mask.repeat(2, 1),
        together=[*together, *([count + number] for number in range(count))],
        packed=micro_batch.packed,
    ).to(scorer.device)
    tokens, mask = view.tokens.to(scorer.device), view.mask.to(scorer.device)
    read = partial(compare_hidden, predicting=rows.predicting, tokens=tokens, mask=mask, temperature=view.temperature)
    found: Tensor = scorer.policy.read(rows, read)
    return found


def compare_hidden(
    logits_of: Callable[[Tensor], Tensor],
    hidden: Tensor,
    predicting: Tensor,
    tokens: Tensor,
    mask: Tensor,
    temperature: float,
    vocabulary: int | None = None,
) -> Tensor:
    """Compare the distributions of each token after two contexts. No more than two chunks of logits are held.

    Args:
        logits_of: from hidden states [n, t, H] to logits [n, t, V].
        hidden: [L, H], of all tokens of all rows.
        predicting: [2 N, T] long, which of them predicts each token: N after one context, then N after the other.
        tokens: [N, T] long.
        mask: [N, T] bool, true on response tokens.
        temperature: the logits are divided by it.
        vocabulary: V, which says how many tokens are a chunk; None: all are one.

    Returns:
        The fields of TokenPairs, [N, T, 5].
    """
    one, other = predicting.view(2, *mask.shape)[:, mask]
    chosen = tokens[mask]
    size = max(1, CHUNK_BYTES // (4 * vocabulary) if vocabulary else len(chosen))
    parts = []
    for first, second, token in zip(*(part.split(size) for part in (one, other, chosen)), strict=True):
        scores, gradients = [], []
        for places in (first, second):
            logits = logits_of(hidden[places][None])[0]
            logprobs = (logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature).log_softmax(-1)
            score = logprobs.gather(-1, token[:, None])
            # p(v) - 1[v = y]; p(y) - 1 as it is exact for a p(y) near 1
            gradients.append(logprobs.exp().scatter_(-1, token[:, None], score.expm1()))
            scores.append(score[:, 0])
        pairs = ((0, 1), (0, 0), (1, 1))
        parts.append(torch.stack([*scores, *((gradients[i] * gradients[j]).sum(-1) for i, j in pairs)], dim=-1))
    values = torch.cat(parts) if parts else hidden.new_zeros(0, len(TokenPairs._fields))
    result = values.new_zeros(*mask.shape, values.shape[-1])
    result[mask] = values
    return result


def token_sums(pairs: TokenPairs, mask: Tensor, prompts: int, share: float) -> Sums:
    """Add up what the tokens show, for each prompt.

    Args:
        pairs: of N responses.
        mask: [N, T] bool.
        prompts: B.
        share: P(y) can know a token where p_m >= share * p_c.

    Returns:
        `logits/inner`, `logits/cosine`; `logits/cosine/BIN` for BIN = p_c, p_m or position from a lower edge on;
        `known`; `difference`, log P(y|x) - log P(y) of a token in nats; and the same of tokens with a gradient.
    """
    cosine, whole = pairs.cosine, mask
    given, alone = pairs.given.exp(), pairs.alone.exp()
    place = torch.arange(mask.shape[1]).expand_as(mask)
    found = {
        "logits/inner": sums_of(pairs.inner, whole, prompts),
        "logits/cosine": sums_of(cosine, whole, prompts),
        "known": sums_of((alone >= share * given).double(), whole, prompts),
        "difference": sums_of(pairs.given - pairs.alone, whole, prompts),
    }
    for name, values, edges in (
        ("p_c", given, PROBABILITIES),
        ("p_m", alone, PROBABILITIES),
        ("position", place, POSITIONS),
    ):
        for low, high in pairwise(edges):
            inside = (values >= low) & (values < high) & mask
            found[f"logits/cosine/{name}_{low:g}"] = sums_of(cosine, inside, prompts)
    return found
