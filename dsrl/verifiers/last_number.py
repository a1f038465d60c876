"""The last number of a text, in the forms in which people and LaTeX write numbers."""

from __future__ import annotations

import math
import re

from dsrl.verifiers.plain_text import plain_characters

DECIMAL = (
    r"\d{1,3}(?:\.\d{3}){2,}(?![\d.])"  # 1.234.567
    r"|(?:\d{1,3}(?:(?:,|_|\{,\}|\\,|[ \u00a0\u2009\u202f])\d{3})+(?!\d)|\d+)(?:\.\d+)?"  # 1,234.5 and 1 234.5
    r"|(?<!\w)\.\d+"
)
BRACES = r"\{(?:[^{}]|\{[^{}]*\})*+\}"
FRACTION = rf"\\[cdt]?frac\s*(?P<top>\{{\s*-?(?:{DECIMAL})\s*\}}|\d)\s*(?P<bottom>\{{\s*(?:{DECIMAL})\s*\}}|\d)"
TO_THE = r"\s*\^\s*"
EXPONENT = r"\{\s*[-+]?\d{1,4}\s*\}|[-+]?\d{1,4}(?!\d)"

TOKEN = re.compile(
    # 3 1/2, 3/4, \frac{3}{4}, 10^3, 1.5e3 and 1.5 \times 10^3
    rf"(?:(?P<whole>\d+)(?:[ \t]+(?=\d+[ \t]*/[ \t]*\d)|[ \t]*(?=\\[cdt]?frac)))?"
    rf"(?:{FRACTION}|(?P<number>{DECIMAL})(?:{TO_THE}(?P<power>{EXPONENT})|\s*/\s*(?P<over>{DECIMAL}))?)"
    rf"(?:[eE](?P<e>[-+]?\d{{1,4}})(?!\d)|\s*(?:\\times|\\cdot|[\u00d7x*])\s*10{TO_THE}(?P<tens>{EXPONENT}))?"
    # expressions, whose value is a number that is not computed here
    rf"|(?P<expression>\\[cdt]?frac\s*(?:{BRACES}|\w)\s*(?:{BRACES}|\w)"
    rf"|(?:\u221a|\\?sqrt|\\(?:ln|log|sin|cos|tan))(?![A-Za-z])\s*(?:_\w|\[[^][]{{0,9}}\])?\s*(?:{BRACES}|\(?(?:{DECIMAL}))?"
    r"|\\pi(?![A-Za-z])|\u03c0)"
    # parts of units and names, which hold digits and are no numbers: m^2, x_{12}, \alpha, H2
    rf"|(?P<other>\^\s*(?:{BRACES}|[-+]?\w+)|(?<=[A-Za-z)}}])_(?:{BRACES}|\w+)|\\[A-Za-z]+|[A-Za-z]\d[\d.,]*)"
)
OPERATOR = r"(?:[-+*/\u00d7]|\\times|\\cdot|\\div)"
AFTER = rf"(?:[ \t]*{OPERATOR}[ \t]+|{OPERATOR})(?:\\?\$[ \t]*)?$"  # in "is *5*" and "is -5" nothing is computed
TERM_BEFORE = re.compile(rf"(?:[\d)\]}}\u03c0]|\\pi|(?<![A-Za-z\\])[A-Za-z]){AFTER}")
WORD_BEFORE = re.compile(rf"(?:%|(?<!\\)\b[A-Za-z]+){AFTER}")
MINUS_BEFORE = re.compile(r"-[ \t]*(?:\\?\$[ \t]*)?$")
POWER_BEHIND = re.compile(
    r"\s*(?:\\right\s*)?(?:\)\s*)?(?:\^(?!\s*\{?\s*(?:\\circ|\u00b0))|[\u00b2\u00b3\u00b9\u2070-\u207b])"
)
NO_NUMBER_BEFORE = re.compile(
    r"(?:\d:|\d\s:\s|[\d)}]_\s*\{?\s*|\\(?:overline|bar|dot)\s*\{?\s*"
    r"|(?:\\pm|\\mp|\u00b1|\\leq?|\\geq?|\\[lg]t|\\neq?|[\u2264\u2265\u2260]|(?:^|[^-=\w>])[<>]=?)\s*-?)$"
)
NO_NUMBER_BEHIND = re.compile(
    r"(?:\s:\s|:)\d|\s*!(?!\s|$|=)|\s*_\s*\{?\s*\d|\.?\s*\\(?:overline|bar|dot)(?![A-Za-z])"
    r"|\\?[ijkxyzabcnpqrtuvw](?![A-Za-z.])|\s[ij]\s*(?:[$}.,)]|$)"
)
"""What makes of a number next to it a ratio, a time, a bound, a factorial, a number in another base, a repeating
decimal, or a multiple of a letter."""
NEAR = 40  # characters before a number that are read for its sign


def last_number(text: str) -> float | None:
    """Return the last number of a text.

    None where there is none, where the last one is part of an expression, a ratio, a bound or the like, or where it is
    too large for a double.
    """
    text = plain_characters(text)
    tokens = [token for token in TOKEN.finditer(text) if token["other"] is None]
    if not tokens or tokens[-1]["expression"]:
        return None
    found = tokens[-1]
    before = text[max(0, found.start() - NEAR) : found.start()]
    if TERM_BEFORE.search(before) or POWER_BEHIND.match(text, found.end()):
        return None
    if NO_NUMBER_BEFORE.search(before) or NO_NUMBER_BEHIND.match(text, found.end()):
        return None
    negative = MINUS_BEFORE.search(before) and not WORD_BEFORE.search(before)
    try:
        value = _value(found)
    except (OverflowError, ZeroDivisionError):
        return None
    return (-value if negative else value) if math.isfinite(value) else None


def _value(found: re.Match[str]) -> float:
    value = _plain(found["top"] or found["number"])
    value **= int(_plain(found["power"] or "1"))
    value /= _plain(found["bottom"] or found["over"] or "1")
    value += _plain(found["whole"] or "0")
    tens = int(_plain(found["e"] or found["tens"] or "0"))
    return value * 10.0**tens


def _plain(digits: str) -> float:
    return float(digits_of(digits))


def digits_of(number: str) -> str:
    """Write a decimal number without what separates its thousands, as `float` reads it."""
    digits = re.sub(r"[^\d.eE/^+-]", "", number)
    return digits.replace(".", "") if digits.count(".") > 1 else digits
