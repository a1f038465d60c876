"""How `math` reads: what of a ground truth is LaTeX for math-verify, and what is compared as text.

math-verify reads LaTeX. In what is none a per cent sign begins a comment, 1e-3 is e - 3, 3 1/2 is 3/2 and a word is the
product of its letters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from dsrl.verifiers.answer_forms import is_words
from dsrl.verifiers.choice_letter import answered_letter, choice_content, choice_letter
from dsrl.verifiers.last_boxed import OPENING, last_boxed
from dsrl.verifiers.plain_text import TEXT, plain_text, unwrapped
from dsrl.verifiers.single_number import SingleNumber, single_number

BOX = re.compile(r"\\boxed\{([^{}]*)\}")
REPEATING = re.compile(r"(?<![\w.])(\d{0,30})\.(\d{0,30})\\(?:overline|bar|dot)\s*(?:\{(\d{1,30})\}|(\d))")
BARE_PI = re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])")
POWER_OF_TEN = re.compile(r"\b10\s*\^")
"""What math-verify reads as a double, which is not 6.02e23 to the last digit."""
IN_A_BASE = re.compile(r"(?<![0-9A-Za-z])\(?([0-9A-Za-z]{1,99})\)?\s*_\s*\{?\s*\(?(\d+)\)?\s*\}?")
CLOCK_OR_RATIO = re.compile(r"\d+\s*(?::\s*\d+)+")
SAID = re.compile(r"\b(?:answer|result|solution)\b[^.\n]{0,40}?(?:\bis\b|\bare\b|:|=)\s*(.+)", re.IGNORECASE)
LINKED = re.compile(r".*(?:\b(?:is|are|was|were|be|equals)\s|=|:\s)\s*(.+)")
TAGGED = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
IN_DOLLARS = re.compile(r"\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")


@dataclass(frozen=True, kw_only=True)
class TruthReading:
    """What an answer may be to equal a ground truth: any of these."""

    latex: tuple[str, ...] = ()
    """Mathematics, for math-verify."""
    words: frozenset[str] = frozenset()
    """Texts, as `plain_text` makes them."""
    letter: str | None = None
    """The letter of a choice."""
    base: str | None = None
    """The base in which a number is written; an answer in another is wrong."""
    percent: bool = False
    """Whether it is a percentage."""


@lru_cache(maxsize=4096)
def read_truth(truth: str) -> TruthReading:
    """Read a ground truth: as a choice, a percentage, words, a number with a unit, a number in a base, or LaTeX."""
    letter = choice_letter(truth)
    if letter is not None:
        content = choice_content(truth)
        said = read_truth(content) if content and choice_letter(content) is None else TruthReading()
        return TruthReading(latex=(rf"\text{{({letter})}}", *said.latex), words=said.words, letter=letter)
    number, bare = single_number(truth), unwrapped(truth)
    if number is not None and number.percent:
        return TruthReading(latex=(_share(number), number.latex), percent=True)
    if number is None and is_words(truth):
        return TruthReading(words=frozenset((plain_text(truth),)))
    if number is not None and "\\" not in bare:
        return TruthReading(latex=(_equation(number),))
    if in_base := IN_A_BASE.fullmatch(bare):
        digits, base = in_base.groups()
        words = frozenset((f"{digits}_{base}".casefold(), digits.casefold()))
        return TruthReading(words=words, base=base, latex=(bare,) if digits.isdigit() else ())
    words = frozenset((plain_text(truth),)) if CLOCK_OR_RATIO.fullmatch(bare) else frozenset()
    without_unit = () if number is None else (_equation(number),)
    return TruthReading(latex=(_mathematics(bare), *without_unit), words=words)


def is_same_text(response: str, reading: TruthReading) -> bool:
    """Say whether a response answers with one of the texts of a ground truth, or with its letter."""
    if reading.letter is not None and answered_letter(response) == reading.letter:
        return True
    return bool(reading.words) and any(_comparable(text) in reading.words for text in answer_texts(response))


def is_in_another_base(response: str, reading: TruthReading) -> bool:
    """Say whether a response answers with a number in another base than that of the ground truth."""
    found = reading.base is not None and IN_A_BASE.search(answer_texts(response)[0])
    return bool(found and found[2] != reading.base)


def readable(response: str, reading: TruthReading) -> str:
    """Write what would be misread in a response so that math-verify reads it: the contents of boxes, else the answer at
    its end, where they are one number in plain text; repeating decimals.
    """
    text = REPEATING.sub(_repeating, response)
    boxed = last_boxed(text)
    if boxed is None:
        number = next((found for part in answer_texts(text) if (found := single_number(part))), None)
        if number is None or number.decimal or number.percent != reading.percent:
            return text
        return f"{text}\n{OPENING}{_written(number)}}}"
    number = single_number(boxed)
    if number is not None and (number.percent or TEXT.search(boxed) or POWER_OF_TEN.search(boxed)):
        start = text.rfind(OPENING) + len(OPENING)
        text = text[:start] + _written(number) + text[start + len(boxed) :]
    return BOX.sub(lambda box: f"{OPENING}{_plain_content(box[1])}}}", text)


def answer_texts(response: str) -> list[str]:
    """Return what may be the answer in a response, the surest first: the content of the last box; without one that of
    the last <answer> tags; without these what is said to be the answer, what is in the last dollars, the last line, and
    what stands behind its last verb.
    """
    boxed = last_boxed(response)
    if boxed is not None:
        return [boxed]
    if tagged := TAGGED.findall(response):
        return [tagged[-1]]
    line = response.strip().rpartition("\n")[2].strip()[-1000:]
    said = SAID.findall(response[-2000:])
    dollars = ["".join(groups) for groups in IN_DOLLARS.findall(line)]
    linked = LINKED.fullmatch(line)
    return [*said[-1:], *dollars[-1:], line, *([linked[1]] if linked else [])]


def _plain_content(content: str) -> str:
    """The content of a box, rewritten where it is a number in plain text."""
    number = single_number(content)
    if number is None:
        return content if "\\" in content or is_words(content) else BARE_PI.sub(r"\\pi ", content)
    return content if number.percent or "\\" in content else number.latex


def _mathematics(text: str) -> str:
    text = REPEATING.sub(_repeating, text)
    return text if "\\" in text else BARE_PI.sub(r"\\pi ", text)


def _written(number: SingleNumber) -> str:
    return _share(number) if number.percent else _equation(number)


def _equation(number: SingleNumber) -> str:
    return f"{number.variable} = {number.latex}" if number.variable else number.latex


def _share(number: SingleNumber) -> str:
    value = number.value / 100
    return rf"{'-' if value < 0 else ''}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _repeating(found: re.Match[str]) -> str:
    """The fraction that a repeating decimal is: 0.1\\overline{6} is 1/6."""
    whole, fixed, repeated = found[1] or "0", found[2], found[3] or found[4]
    scale = 10 ** len(fixed)
    value = Fraction(int(whole + fixed), scale) + Fraction(int(repeated), scale * (10 ** len(repeated) - 1))
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _comparable(text: str) -> str:
    plain = plain_text(text)
    in_base = IN_A_BASE.fullmatch(plain)
    return "_".join(in_base.groups()) if in_base else plain
