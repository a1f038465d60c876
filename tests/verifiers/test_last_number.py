"""Which number is read."""

from __future__ import annotations

import time

import pytest

from dsrl.verifiers.last_number import last_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("-7.5", -7.5),
        ("+.5", 0.5),
        ("\u22123", -3),
        ("1,234,567.5", 1234567.5),
        ("12,34", 34),
        ("1e-3", 0.001),
        ("2.5E+2", 250),
        (r"1.5 \times 10^{3}", 1500),
        ("6.02 \u00d7 10^23", 6.02e23),
        (r"3 \cdot 10^{-2}", 0.03),
        ("3/4", 0.75),
        (r"-\frac{3}{4}", -0.75),
        (r"\dfrac{1}{ 8 }", 0.125),
        ("50%", 50),
        (r"50\%", 50),
        ("$1,200", 1200),
        (r"\$18.50", 18.5),
        ("12 apples", 12),
        ("first 6, then 7.", 7),
        ("x = -2", -2),
        ("1/0", None),
        ("1e9999", None),
        ("9" * 400, None),
        ("so 7 m^2", 7),
        (r"9\text{ cm}^{3}", 9),
        ("5 m\u00b3", 5),
        (r"90^{\circ}C", 90),
        ("5 H2O", 5),
        ("H2O", None),
        ("x_1 = 5", 5),
        ("x_{12}", None),
        (r"\frac12", 0.5),
        (r"\frac1{8}", 0.125),
        (r"\tfrac{-3}4", -0.75),
        ("3 1/2", 3.5),
        (r"-3\frac{1}{2}", -3.5),
        ("1 000 000", 1e6),
        (r"1{,}000\,000.5", 1000000.5),
        ("10^3", 1000),
        ("-2^{-2}", -0.25),
        ("1.5*10^3", 1500),
        ("0^{-1}", None),
        ("10^9999", None),
        ("10\u00b3", None),
        ("2^{n+1}", None),
        ("3/4^2", None),
        (r"\left(\frac{1}{2}\right)^2", None),
        (r"\sqrt{2}", None),
        (r"\sqrt[3]{8}", None),
        ("\u221a2", None),
        ("sqrt(16) = 4", 4),
        (r"\log_2 8", None),
        (r"\frac{\pi}{2}", None),
        (r"\frac{\sqrt{3}}{2}", None),
        (r"2\pi", None),
        (r"5\pi \approx 15.7", 15.7),
        ("2 + 3", None),
        ("2 + 3 = 5", 5),
        ("10-5", None),
        ("x - 5", None),
        ("2020-01-05", None),
        ("The answer - 5", 5),
        ("top-5", 5),
        ("The answer is -5", -5),
        ("x = - 5", -5),
        (r"x\approx-5", -5),
        ("$-5", -5),
        ("-$5", -5),
        ("is *5*, or **6**", 6),
        ("is _5_", 5),
        ("seven", None),
        ("", None),
        ("nan inf", None),
    ],
)
def test_the_number_of_a_text(text: str, number: float | None) -> None:
    assert last_number(text) == (None if number is None else pytest.approx(number, rel=1e-15))


@pytest.mark.parametrize(
    "part",
    ["1", "1,", "1/", "- ", "1 ", "1 000", "1 1/", "1.", "a1", "{a}", r"\frac{", r"\frac{{a}", r"\frac1 ", r"\sqrt["]
    + [r"\sqrt{", r"\log_", "^{", "^ ", "1^", "x_{", "10^{", "$ ", " "],
)
def test_reading_takes_time_in_proportion_to_the_text(part: str) -> None:
    for text in (part * (20_000 // len(part)), "1" + part * (20_000 // len(part))):
        started = time.thread_time()
        last_number(text)
        assert time.thread_time() - started < 1
