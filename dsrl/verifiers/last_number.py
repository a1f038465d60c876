"""The last number of a text, in the forms in which people and LaTeX write numbers."""

from __future__ import annotations

import math
import re

DECIMAL = (
    r"(?:\d{1,3}(?:(?:,|\{,\}|\\,|[ \u00a0\u2009\u202f])\d{3})+(?!\d)|\d+)(?:\.\d+)?"  # 1,234.5 and 1 234.5
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
NEAR = 40  # characters before a number that are read for its sign


def last_number(text: str) -> float | None:
    """Return the last number of a text.

    None where there is none, where the last one is part of an expression, or where it is too large for a double.
    """
    text = text.replace("\u2212", "-")
    tokens = [token for token in TOKEN.finditer(text) if token["other"] is None]
    if not tokens or tokens[-1]["expression"]:
        return None
    found = tokens[-1]
    before = text[max(0, found.start() - NEAR) : found.start()]
    if TERM_BEFORE.search(before) or POWER_BEHIND.match(text, found.end()):
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
    return float(re.sub(r"[^\d.+-]", "", digits))
