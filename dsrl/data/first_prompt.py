"""Show a prompt as the model reads it."""

from __future__ import annotations

from dsrl.data.encoding import PromptEncoder
from dsrl.data.source import Row

SHOWN = 2000
"""Characters of a prompt that are shown at the start of a run."""


def shown_prompt(label: str, row: Row, encoder: PromptEncoder, most: int | None = SHOWN) -> str:
    """Write the prompt of a row for people: its tokens counted, and decoded with the special ones among them.

    Args:
        label: what the prompt is.
        row: asks the question.
        encoder: makes the prompt.
        most: characters that are shown, half of them from the end; None: all.
    """
    _, ids, cut = encoder.read(row.question)
    text = str(encoder.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
    if most is not None and len(text) > most:
        half = most // 2
        text = f"{text[:half]}\n[{len(text) - 2 * half:,} characters]\n{text[-half:]}"
    lines = "".join(f"\n  | {line}" for line in text.split("\n"))
    return f"{label} ({len(ids):,} tokens{', without its beginning' if cut else ''}):{lines}"
