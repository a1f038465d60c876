"""A short answer without what is around it: dollars, boxes, \\text{}, quotes, a final period."""

from __future__ import annotations

import re
import unicodedata

TEXT_COMMANDS = (
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|mbox|hbox|operatorname)"
)
PRODUCTS = r"(?:[xyz]{2,3}|abc?|bc|ac|mn|pq|rs|uv)"
"""Letters that are a product of variables, and no word."""
AROUND = re.compile(rf"(?:{TEXT_COMMANDS}|\\(?:boxed|fbox|displaystyle))?\s*\{{")
PAIRS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ('"', '"'), ("'", "'"))
TEXT = re.compile(rf"{TEXT_COMMANDS}\s*\{{([^{{}}]*)\}}")
LAYERS = 8
"""How many things around an answer are taken off, one within the other."""
SPACE = re.compile(r"\\[,;:! ]|\\q?quad(?![A-Za-z])|~|[\s\u00a0\u2009\u202f]")
VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")
PLAIN = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},  # full-width forms of ASCII
    **dict.fromkeys((0x2018, 0x2019), "'"),
    **dict.fromkeys((0x201C, 0x201D), '"'),
    **dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2212), "-"),
    0x3002: ".",
    0x3000: " ",
}


def unwrapped(text: str) -> str:
    """Return an answer without what is around the whole of it: dollars, a box, \\text{}, quotes, a final period.

    Characters become plain ones, as `plain_characters` writes them.
    """
    text = plain_characters(text)
    for _ in range(LAYERS):
        text = _inside(text)
    return text.strip()


def plain_characters(text: str) -> str:
    """Write full-width characters and typographic quotes and dashes as plain ones, and \u00bd as 1/2."""
    return VULGAR.sub(_fraction, text.translate(PLAIN))


def plain_text(text: str) -> str:
    """Return an answer as words are compared: unwrapped, in small letters, with single spaces."""
    text = unwrapped(text)
    for _ in range(LAYERS):
        text = TEXT.sub(r"\1", text)
    return unwrapped(" ".join(SPACE.sub(" ", unicodedata.normalize("NFKC", text)).split())).casefold()


def balanced_end(text: str, start: int) -> int | None:
    """Find the brace that closes the one before `start`; None where none does. Escaped braces are not counted."""
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return start + brace.start()
    return None


def _inside(text: str) -> str:
    text = text.strip()
    if text.endswith(".") and not text.endswith((" .", "..", "\\right.")):
        return text[:-1]
    for opening, closing in PAIRS:
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)]
            if closing not in inner and opening not in inner and not inner.endswith("\\"):
                return inner
    around = AROUND.match(text)
    if around and balanced_end(text, around.end()) == len(text) - 1 and not _is_set(text):
        return text[around.end() : -1]
    return text


def _is_set(text: str) -> bool:
    """Say whether bare braces hold several things: {1, 2} is a set that somebody wrote without backslashes."""
    return text.startswith("{") and "," in text


def _fraction(found: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", found.group()).partition("\u2044")
    before = found.string[: found.start()]
    return f"{' ' if before[-1:].isdigit() else ''}{top}/{bottom}"
