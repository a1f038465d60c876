"""What a ground truth is by its form: a choice, one number, words, or mathematics."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from dsrl.verifiers.choice_letter import choice_letter
from dsrl.verifiers.plain_text import PRODUCTS, plain_text, unwrapped
from dsrl.verifiers.single_number import single_number

Form = Literal["choice", "number", "words", "math"]

DATE_OR_TIME = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2(?:\d{4}|\d\d)|\d{1,2}:\d\d:\d\d|\d{1,2}:0\d"
    r"|\d{1,2}(?::\d\d){1,2}\s*[ap]\.?\s?m\.?",
    re.IGNORECASE,
)
FORMULA_OF_ATOMS = re.compile(r"(?=.*[A-Za-z]\d)(?:[A-Z][a-z]?\d*){2,}|[A-Z]\d+")  # H2O, B12
OF_MATHEMATICS = re.compile(
    r"[=<>^_|+*\u2264\u2265\u221a\u221e\u222a\u2229]|(?<![\w\s])-\s*\w|\(\s*\w\s*,|\w\s*,\s*\w\s*\)"
)
VARIABLES = re.compile(PRODUCTS)
FUNCTION = re.compile(
    "pi|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|lg|exp|sqrt|cbrt|frac|dfrac|tfrac|lim|max|min|"
    "gcd|lcm|mod|infinity|infty"
)
CONNECTIVE = re.compile("and|or")


@lru_cache(maxsize=4096)
def form_of(truth: str) -> Form:
    """Tell the form of a ground truth.

    `choice` is a letter, perhaps with its text: A, (A), A. 5 meters, The answer is (C). `number` is one number with or
    without a unit, but no percentage. `words` are compared as text: words, dates, times of day, quantities in several
    units, formulas of atoms. Everything else is mathematics.
    """
    if choice_letter(truth) is not None:
        return "choice"
    number = single_number(truth)
    if number is not None and not number.percent:
        return "number"
    return "words" if number is None and is_words(truth) else "math"


@lru_cache(maxsize=4096)
def is_words(text: str) -> bool:
    """Say whether an answer is to be compared as words, since it would be misread as mathematics.

    A plain word is one, not a product of its letters; the names of functions and the usual products of variables, such
    as xy, are none.
    """
    bare = unwrapped(text)
    plain = plain_text(text)
    if DATE_OR_TIME.fullmatch(plain) or FORMULA_OF_ATOMS.fullmatch(unwrapped(bare)):
        return True
    if "\\" in plain or OF_MATHEMATICS.search(plain):
        return False
    runs = re.findall(r"[^\W\d_]+", plain)
    if not any(len(run) > 1 for run in runs):
        return any(ord(letter) > 0x2E80 for run in runs for letter in run)
    if len(runs) == 1 and plain == runs[0]:
        return plain not in ("pi", "infinity", "infty") and not VARIABLES.fullmatch(plain)
    words = [run for run in runs if len(run) > 1 and not CONNECTIVE.fullmatch(run) and not VARIABLES.fullmatch(run)]
    return not all(FUNCTION.fullmatch(word) for word in words)


def other_verifier(truth: str) -> str:
    """Say which verifier can compare a ground truth, for a message of one that cannot."""
    name = {"choice": "choice", "number": "numeric", "words": "exact", "math": "math"}[form_of(truth)]
    return f"verifier={name} can compare it, and verifier=auto chooses for each row"
