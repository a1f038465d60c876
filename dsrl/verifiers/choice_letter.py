"""The letter of a choice, in a ground truth and in a response."""

from __future__ import annotations

import re

from dsrl.verifiers.last_boxed import last_boxed
from dsrl.verifiers.plain_text import TEXT, unwrapped

LETTERS = "ABCDEFGHIJ"
"""The letters that choices have: MMLU-Pro has ten of them."""

SAID = (
    r"(?:(?:answer|choice|option)s?(?:\s+(?:to|for|of)\b[^.\n]{0,80}?)?\s*(?:\s(?:is|would\s+be|must\s+be)|:|=)"
    r"|\u7b54\u6848\s*(?:\u662f|\u4e3a|\u70ba|:|\uff1a)|\bchoose|\bselect|\bpick)\s*:?\s*"
    r"(?:(?:the\s+)?(?:correct\s+)?(?:answer|choice|option|letter)\s*(?:is)?:?\s*)?"
)
"""What stands before the letter that is an answer."""
DECORATED = r"(?:\\(?:boxed|text(?:bf|rm|it)?|mathrm|mathbf)\s?\{|[*_`\"'$\s{]){0,12}"
ANOTHER = re.compile(
    r"[*_`\"'$)}\]\s]{0,9}(?:\b(?:or|and)\s|[,/&])?[*_`\"'$\s]{0,9}"
    r"(?:[(\[]\s?[A-Z]\s?[)\]]|[A-Z](?![\w'])[^A-Za-z\n]{0,9}(?:$|\n))"
)
"""A second letter: an answer of two is none."""
DENIED = re.compile(
    r"(?:\bnot|n't)\s+(?:(?:the|option|choice|answer|be)\s+){0,3}[*_`\"'$(\[]{0,9}[A-Za-z](?![\w'])[*_`\"'$)\]]{0,9}",
    re.IGNORECASE,
)

WHOLE = re.compile(
    r"(?:(?:the\s+)?(?:(?:final|correct|best)\s+)*(?:answer|choice|option)(?:\s+is|:|\s)\s*:?\s*)?"
    r"(?:(?P<inside>[(\[])\s*(?P<letter>[A-Za-z])\s*[)\]]\s*[.:,-]?|(?P<bare>[A-Za-z])\s*(?P<mark>[.):,]))(?:\s*(?P<content>\S.*))?",
    re.DOTALL | re.IGNORECASE,
)
NAMED = re.compile(
    r"(?:the\s+)?(?:(?:final|correct|best)\s+)*(?:answer|choice|option)(?:\s+is\s*:?|:|\s)\s*(?P<letter>[A-Za-z])\.?",
    re.IGNORECASE,
)
SAID_LETTER = re.compile(
    rf"{SAID}{DECORATED}(?:[(\[]\s*(?P<enclosed>[A-Z])\s*[)\]]"
    r"|(?P<letter>(?-i:[B-HJ-Z])|[A-Z](?!\s+(?!or\b|and\b)[A-Z]))(?![\w']))",
    re.IGNORECASE,
)
IN_PARENTHESES = re.compile(r"(?<![\w\\}])\(\s*([A-Z])\s*\)")
ALONE = re.compile(r"(?<![\w'\\(])(?:([B-HJ-Z])(?![\w'])|([AI])(?=[.,:;)*<\"\]}|]|\s*$))", re.MULTILINE)


def choice_letter(text: str, letters: str = LETTERS, *, small: bool = False) -> str | None:
    """Read a short text that is a choice: A, (A), [a], A., \\text{(A)}, A. 5 meters, The answer is (C), \\boxed{A}.

    Args:
        text: a ground truth, or what is in a box.
        letters: those that choices have.
        small: whether a small letter alone is a choice, too, and not a variable.

    Returns:
        The capital letter, or None.
    """
    found = _choice(text, letters, small)
    return found[0] if found else None


def choice_content(text: str, letters: str = LETTERS) -> str | None:
    """Return what a choice says behind its letter, 5 meters of A. 5 meters; None where there is nothing."""
    found = _choice(text, letters, True)
    return found[1] if found else None


def _choice(text: str, letters: str, small: bool) -> tuple[str, str | None] | None:
    text = unwrapped(TEXT.sub(r"\1", unwrapped(text.strip())))
    if re.fullmatch(r"[A-Za-z]", text):
        return (text.upper(), None) if text.upper() in letters and (small or text.isupper()) else None
    if named := NAMED.fullmatch(text):
        letter = named["letter"].upper()
        return (letter, None) if letter in letters else None
    whole = WHOLE.fullmatch(text)
    if not whole:
        return None
    letter, content = whole["letter"] or whole["bare"], whole["content"]
    if letter.upper() not in letters or (content and not _labels(whole)):
        return None
    return letter.upper(), content and unwrapped(content)


def _labels(whole: re.Match[str]) -> bool:
    """Say whether a letter is the label of what follows, and not the beginning of a list or a name."""
    if ANOTHER.match(whole["content"]) or re.match(r"(?:and|or)\b|[A-Z]\s*[.,)]", whole["content"]):
        return False
    apart = whole.start("content") > whole.end("mark") or not whole["content"][0].isalpha()
    return bool(whole["inside"]) or (whole["bare"].isupper() and whole["mark"] != "," and apart)


def answered_letter(response: str, letters: str = LETTERS) -> str | None:
    """Find the letter that a response answers with; None where there is none, or there are two.

    The last box counts; without one the last letter that is said to be the answer, else the last in parentheses, else
    the last letter alone, which the article A and the pronoun I are not.
    """
    boxed = last_boxed(response)
    if boxed is not None:
        return choice_letter(boxed, letters, small=True)
    text = re.sub(r"(?: ?\n ?)+", "\n", re.sub(r"[^\S\n]+", " ", response))  # patterns need not look for more
    text = DENIED.sub(" ", text)
    said = [*SAID_LETTER.finditer(text)]
    if said and ANOTHER.match(text, said[-1].end()):
        return None
    if not said and "\n" not in text.strip() and (whole := choice_letter(text, letters, small=True)) is not None:
        return whole
    found = [match["enclosed"] or match["letter"] for match in said]
    for candidates in (found, IN_PARENTHESES.findall(text), [one or other for one, other in ALONE.findall(text)]):
        fitting = [letter.upper() for letter in candidates if letter.upper() in letters]
        if fitting:
            return fitting[-1]
    return None
