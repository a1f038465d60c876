"""Responses that are written to samples.jsonl: which they are, what is known of their tokens, and these as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from dsrl.models.head import TokenScores
    from dsrl.types import Rollouts

UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer decodes a part of a character to."""
LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8, at most, each of which may be a token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenPull:
    """How an objective pulls on the tokens of one response of rank 0, in one space.

    Args:
        space: its name.
        row: the number of the response.
        pull: [t], -d loss / d log P of each token, times the tokens that the optimizer step counts, on the CPU. With
            aggregate token_mean that is coefficient x importance weight x ratio x advantage.
        clipped: [t] bool, tokens with an advantage of which a term's loss takes nothing: those that a clip, or an
            importance weight of 0, holds.
    """

    space: str
    row: int
    pull: Tensor
    clipped: Tensor


@dataclass(kw_only=True, slots=True)
class LoggedTokens:
    """What is known of the first tokens of n responses of rank 0.

    Args:
        rows: the numbers of these responses there, as of `logged_rows`, on every rank.
        length: tokens of each, at most.
        before: by space, scores [n, t] of the policy that sampled; on other ranks, of no response.
        after: by space, log-probabilities [n, t] after the update; empty before it.
        pulls: how the update pulled on each response that it scored, by its number and by space.
    """

    rows: list[int]
    length: int
    before: Mapping[str, TokenScores]
    after: Mapping[str, Tensor] = field(default_factory=dict)
    pulls: Mapping[int, Mapping[str, TokenPull]] = field(default_factory=dict)


def add_pulls(pulls: Iterable[TokenPull]) -> dict[int, dict[str, TokenPull]]:
    """Add up the pulls of several optimizer steps: those on each response, by space. Clipped is what one step clips."""
    found: dict[int, dict[str, TokenPull]] = {}
    for new in pulls:
        own = found.setdefault(new.row, {})
        old = own.get(new.space)
        own[new.space] = new if old is None else _sum(old, new)
    return found


def _sum(one: TokenPull, other: TokenPull) -> TokenPull:
    pull, clipped = one.pull + other.pull, one.clipped | other.clipped
    return TokenPull(space=one.space, row=one.row, pull=pull, clipped=clipped)


def logged_rows(rollouts: Rollouts, count: int) -> list[int]:
    """Choose `count` of N responses: whole groups, spread evenly over the prompts; only the last may be cut short."""
    prompts, size = len(rollouts.prompts), rollouts.responses_per_prompt
    groups = min(prompts, -(-count // size)) if size else 0
    chosen = [place * prompts // groups for place in range(groups)]
    return [group * size + number for group in chosen for number in range(size)][:count]


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Write each token as the text that it adds to those before it, special tokens included.

    A character of several tokens belongs to the last of them, and the text of the others is empty.
    """

    def decode(part: Sequence[int]) -> str:
        found = tokenizer.decode(list(part), clean_up_tokenization_spaces=False)
        assert isinstance(found, str)
        return found

    texts: list[str] = []
    first, shown = 0, ""  # a window that begins with the last token that was shown, and what that is alone
    for end in range(1, len(ids) + 1):
        text = decode(ids[first:end])
        if text.endswith(UNREADABLE) and end < len(ids) and end - first <= LONGEST_CHARACTER:
            texts.append("")
            continue
        texts.append(text[len(shown) :])
        first, shown = end - 1, decode(ids[end - 1 : end])
    return texts
