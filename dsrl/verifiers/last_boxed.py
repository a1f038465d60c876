"""The content of the last \\boxed{...} of a text."""

from __future__ import annotations

import re

OPENING = "\\boxed{"
BRACED = re.compile(r"\\(?:boxed|fbox)\s{0,9}\{")
BARE = re.compile(r"\\(?:boxed|fbox)\s{1,9}([-+]?\d[\d,]*(?:\.\d+)?(?:/\d+)?|[A-J](?![\w'])(?!\s+[a-z]))")
EMPTY = re.compile(r"\\boxed\{(?:\\?[\s,;!]|\.\.\.|\\[lc]?dots|\u2026){0,20}\}")


def plain_boxes(text: str) -> str:
    r"""Write \fbox{4}, \boxed {4} and \boxed 4 as \boxed{4}, and leave out empty boxes beside one that is not, as in
    "I have put it into \boxed{}".
    """
    text = BARE.sub(r"\\boxed{\1}", BRACED.sub(r"\\boxed{", text))
    filled = EMPTY.sub("", text)
    return filled if OPENING in filled else text


def last_boxed(text: str) -> str | None:
    """Return the content of the last \\boxed{...} of a text, or None where there is none or it never closes.

    It may be written in any way that `plain_boxes` knows. Braces inside are balanced, and escaped braces are not
    counted. Of nested boxes it is the inner one. The time is linear in the length of the text.
    """
    return _content(plain_boxes(text))


def ends_in_a_box(text: str) -> bool:
    """Tell whether the last box never closes: the text was cut off in its answer, and what stands there is none."""
    plain = plain_boxes(text)
    return OPENING in plain and _content(plain) is None


def _content(text: str) -> str | None:
    """Return the content of the last box of a text in which all are plain."""
    found = text.rfind(OPENING)
    if found < 0:
        return None
    start, depth = found + len(OPENING), 1
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[start : start + brace.start()]
    return None
