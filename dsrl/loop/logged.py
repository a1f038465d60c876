"""Responses that are written to samples.jsonl: which they are, and their tokens as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dsrl.types import Rollouts

UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer decodes a part of a character to."""
LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8, at most, each of which may be a token."""


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
