"""An answer that is one number, with or without a unit, and nothing else."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from dsrl.verifiers.last_number import TOKEN, digits_of
from dsrl.verifiers.plain_text import LAYERS, PRODUCTS, TEXT, TEXT_COMMANDS, unwrapped

CURRENCY = r"(?:US|A|C|HK)?\\?\$|[\u20ac\u00a3\u00a5\u20b9]|(?:USD|EUR|GBP|Rs\.?)(?![A-Za-z])"
CURRENCY_BEHIND = re.compile(rf"\s*(?:{CURRENCY})$")
PLAIN_DECIMAL = re.compile(r"\d+(?:\.\d+)?")
BEGINNING = re.compile(rf"(?P<sign>[-+]?)\s*(?:{CURRENCY})?\s*(?P<other_sign>[-+]?)\s*(?=[\d.\\])")
NAME = (
    r"(?:[A-Za-z](?:_\{?\w{1,9}\}?)?'?(?:\([\w, ]{0,9}\))?"  # x, a_{10}, f(2)
    r"|\\(?!d?frac|tfrac|sqrt|log|ln|sin|cos|tan|sum|int|prod|binom|left|begin|overline|pm)[A-Za-z]+\s?[A-Z]{0,4}"
    rf"|{TEXT_COMMANDS}\s*\{{[^{{}}]*\}}|(?!{PRODUCTS}\s*[=:])[A-Za-z][A-Za-z']{{1,20}}(?:\s[A-Za-z']{{1,20}}){{0,6}})"
)
"""What a number may be called: a variable, a function's value, words; no expression, whose equation it would be."""
NAMED = re.compile(
    r"(?:(?:the\s+)?(?:(?:final|correct)\s+)?answer(?:\s+is)?\s*:?\s+|(?:\\approx|\u2248|~)\s*"
    rf"|(?:about|around|roughly|approximately)\s+|(?!(?:.*\s)?(?:or|and)\s){NAME}\s*(?:=|\\approx|\u2248|:(?=\s))\s*)",
    re.IGNORECASE,
)
SYMBOL = re.compile(r"(?:[A-Za-z]|\\[A-Za-z]+)(?:_\{?\w{1,9}\}?)?(?:\([\w, ]{0,9}\))?(?=\s*(?:=|\\approx|\u2248))")
LONGEST = 300
"""Characters that an answer which is one number may have."""
PERCENT = re.compile(r"\s*(?:\\?%|per\s?cent\b|pct\b)", re.IGNORECASE)
DEGREES = re.compile(r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\u00b0|\\degree)\s*(?:\\?\s?(?:C|F|K)\b)?")
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
SCALE = re.compile(rf"\s*({'|'.join(SCALES)})\b", re.IGNORECASE)
CLOCK = re.compile(r"\s?[ap]\.?\s?m\.?", re.IGNORECASE)
ORDINAL = re.compile(r"(?:\^\s*\{?)?\s*(?:st|nd|rd|th)\b\}?")
ATTACHED = (
    r"(?:[kcmn\u00b5\u03bc]?m|km/h|kph|mph|[km]?g|m?s|ms|[kMG]?Hz|ft|in|yd|mi|lbs?|oz|min|sec|hrs?|h|[mc]?[lL]|[kMG]?W"
    r"|kWh|[kMGT]B|[kK]?[VJN]|USD|EUR|pm|am|p\.m|a\.m|cents?|pts?|years?|days?|hours?|minutes?|seconds?|times)"
)
WORD = r"[^\W\d_]+(?:[-'.][^\W\d_]+)*\.?"
POWER = r"(?:\s*\^\s*\{?\s*-?\d\s*\}?|[\u00b2\u00b3])?"
UNIT = re.compile(
    rf"(?:{ATTACHED}|[-\s]+{WORD}|(?<=\w)\s*/\s*{WORD}){POWER}(?:(?:\s*[/\u00b7]\s*|\s+){WORD}{POWER})*\s*"
)
LETTER_UNITS = set("mgshlLJWVKCFNA")
NO_UNIT = re.compile(
    "pi|sqrt|root|sin|cos|tan|cot|csc|log|ln|exp|mod|choose|factorial|plus|minus|times|over|divided|or|and|to|by|if|base|"
    "squared|cubed|power|infinity|half|halves|thirds?|quarters?|fourths?|fifths?|tenths?|less|more|than|between|through|"
    f"out|not|remainder|repeating|recurring|theta|alpha|beta|[eijxyz]|{PRODUCTS}",
    re.IGNORECASE,
)
"""Words behind a number that are no unit of it, but more mathematics."""


@dataclass(frozen=True, kw_only=True)
class SingleNumber:
    """A number that an answer is."""

    value: Fraction
    """What it is worth; of a percentage the number before the sign."""
    decimal: str
    """The digits of the number where it is a plain decimal one, such as 1234.50; else empty."""
    percent: bool = False
    """Whether it is a percentage."""
    variable: str = ""
    """The variable that it is said to be: x of x = 5."""

    @property
    def latex(self) -> str:
        """The number as LaTeX that has one reading, without a unit or a sign of per cent."""
        sign = "-" if self.value < 0 else ""
        if self.decimal or self.value.denominator == 1:
            return sign + (self.decimal or str(abs(self.value.numerator)))
        return rf"{sign}\frac{{{abs(self.value.numerator)}}}{{{self.value.denominator}}}"


def single_number(text: str) -> SingleNumber | None:
    """Read an answer that is one number, perhaps behind a name or with a unit: 1,234.5, 3 1/2, x = 5, $18, 5 km/h, 50%.

    None where it is anything else: several numbers, a ratio, a time, a date, an expression, a number in another base.
    """
    text, variable = unwrapped(text), ""
    if len(text) > LONGEST:
        return None
    while named := NAMED.match(text):
        variable = symbol[0] if (symbol := SYMBOL.match(named[0])) else variable
        text = unwrapped(text[named.end() :])
    begins = BEGINNING.match(text)
    found = begins and TOKEN.match(text, begins.end())
    if not begins or not found or found["expression"] or found["other"] is not None:
        return None
    rest = text[found.end() :]
    scale = SCALE.match(rest)
    rest = rest[scale.end() :] if scale else rest
    percent = PERCENT.match(rest)
    if not _is_unit(rest[percent.end() :] if percent else rest):
        return None
    value = _exact(found)
    if value is None:
        return None
    value *= SCALES[scale[1].lower()] if scale else 1
    negative = (begins["sign"] == "-") != (begins["other_sign"] == "-")
    composed = scale or any(found[part] for part in ("whole", "top", "power", "over", "e", "tens"))
    digits = "" if composed else digits_of(found.group())
    return SingleNumber(
        value=-value if negative else value,
        decimal=digits if PLAIN_DECIMAL.fullmatch(digits) else "",
        percent=percent is not None,
        variable=variable,
    )


def _is_unit(rest: str) -> bool:
    """Say whether what stands behind a number is nothing, or a unit."""
    if rest.lstrip().startswith(("..", "\u2026", "\\ldots", "\\dots")):
        return False
    rest = CURRENCY_BEHIND.sub("", rest.rstrip(" ."))
    for _ in range(LAYERS):
        rest = TEXT.sub(lambda text: f" {text[1]} ", rest)
    rest = re.sub(r"\\[,;:! ]|~", " ", rest).rstrip()
    if not rest or DEGREES.fullmatch(rest) or ORDINAL.fullmatch(rest) or CLOCK.fullmatch(rest):
        return True
    if not UNIT.fullmatch(rest):
        return False
    words = re.findall(r"[^\W\d_]+", rest)
    return not any(NO_UNIT.fullmatch(word) or (len(word) == 1 and word not in LETTER_UNITS) for word in words)


def _exact(found: re.Match[str]) -> Fraction | None:
    """The exact value of a token; None where it is none, or too large."""
    try:
        value = _plain(found["top"] or found["number"])
        power = int(_plain(found["power"] or "1"))
        tens = int(_plain(found["e"] or found["tens"] or "0"))
        if abs(power) > 1000 or abs(tens) > 400:
            return None
        value = value**power / _plain(found["bottom"] or found["over"] or "1") + _plain(found["whole"] or "0")
        value *= Fraction(10) ** tens
        float(value)
    except (OverflowError, ZeroDivisionError):
        return None
    return value


def _plain(digits: str) -> Fraction:
    if len(digits) > 1000:
        raise OverflowError
    return Fraction(digits_of(digits))


def number_value(text: str) -> float | None:
    """The value of an answer that is one number, as a double; None where it is anything else."""
    found = single_number(text)
    value = None if found is None else float(found.value)
    return value if value is not None and math.isfinite(value) else None
