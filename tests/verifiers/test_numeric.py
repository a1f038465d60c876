"""`numeric`: which number is read, and how near is near enough."""

from __future__ import annotations

import time

import pytest

from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.verifiers import Numeric
from dsrl.verifiers.numeric import last_number


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
        ("seven", None),
        ("", None),
        ("nan inf", None),
    ],
)
def test_the_number_of_a_text(text: str, number: float | None) -> None:
    assert last_number(text) == (None if number is None else pytest.approx(number, rel=1e-15))


@pytest.mark.parametrize(
    ("parameters", "response", "truth", "reward"),
    [
        ({}, "so # 7.0", "7", 1),
        ({}, r"\boxed{7.000001}, not 8", "7", 1),
        ({}, r"\boxed{7.00001}", "7", 0),
        ({"rel_tol": 0.01}, "101", "100", 1),
        ({"rel_tol": 0.01}, "99", "-100", 0),
        ({"rel_tol": 0.01}, "101.01", "100", 0),
        ({"abs_tol": 0.5}, "0.4", "0", 1),
        ({"abs_tol": 0.5}, "0.6", "0", 0),
        ({"rel_tol": 0, "abs_tol": 0}, "3", "3.0", 1),
        ({"rel_tol": 0, "abs_tol": 0}, "3.0000000001", "3", 0),
        ({}, "# no number", "0", 0),
        ({}, "", "0", 0),
        ({"marker": "answer:"}, "3 answer: 4", "4", 1),
    ],
)
def test_rewards(make_rollouts, parameters, response: str, truth: str, reward: float) -> None:
    assert Numeric(**parameters).score(make_rollouts([[response]], [truth])).tolist() == [[reward]]


def test_a_ground_truth_without_a_number_is_the_users_error(make_rollouts) -> None:
    with pytest.raises(ConfigError, match="the ground truth 'seven' holds no number. The question begins 'question 0'"):
        Numeric().score(make_rollouts([["7"]], ["seven"]))


@pytest.mark.parametrize("parameters", [{"rel_tol": -1}, {"abs_tol": float("nan")}, {"marker": ""}])
def test_impossible_parameters(parameters: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"verifier numeric: {next(iter(parameters))} must"):
        build("verifier", {"name": "numeric", **parameters})


@pytest.mark.parametrize(
    "text", ["1" * 10_000, "1," * 5_000, "1/" * 5_000, r"\frac{" * 2_000, "- " * 5_000, "1 " * 5_000]
)
def test_reading_is_fast(text: str) -> None:
    started = time.monotonic()
    last_number(text)
    assert time.monotonic() - started < 1
