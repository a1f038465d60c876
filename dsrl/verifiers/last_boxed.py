"""The content of the last \\boxed{...} of a text."""

from __future__ import annotations

import re

OPENING = "\\boxed{"


def last_boxed(text: str) -> str | None:
    """Return the content of the last \\boxed{...} of a text, or None where there is none or it never closes.

    Braces inside are balanced, and escaped braces are not counted. Of nested boxes it is the inner one. The time is
    linear in the length of the text.
    """
    found = text.rfind(OPENING)
    if found < 0:
        return None
    start, depth = found + len(OPENING), 1
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[start : start + brace.start()]
    return None
