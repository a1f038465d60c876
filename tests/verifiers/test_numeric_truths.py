"""Ground truths and answers that are one number, and those that are not; right values by hand."""

from __future__ import annotations

import pytest

from dsrl.errors import ConfigError
from dsrl.types import Prompt
from dsrl.verifiers import Numeric
from dsrl.verifiers.single_number import single_number

REFUSED = [
    "1011_2",
    "2516_{8}",
    "3:4",
    "12:45",
    "[1, 4]",
    "1, 2, 4",
    r"\binom{5}{2}",
    r"0.\overline{3}",
    "5!",
    r"\pm 3",
    r"x \le 3",
    r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
    "4i",
    "3 feet 4 inches",
    "1/2/3",
    "2^{10}-1",
    r"\lfloor 3.7 \rfloor",
    r"7 \text{ or } 9",
    "12:05",
    "2020-01-05",
    "1/2/2020",
    "east",
    "(A)",
    "4 i",
    "3j",
    "5x",
    "2 pi",
    "x = 2 or x = 3",
    "1, 2",
    "(1, 2)",
    "x+y-z+1=0",
    "xy = 12",
    "5 or 6",
    "3,14",
    "1,00,000",
    "2 hours 30 minutes",
    "3 out of 5",
    "5 to 1",
    "3 quarters",
    "5 (five)",
    "x^2",
    "1/0",
    "2 + 3",
    r"\sqrt{2}",
    r"\frac{\pi}{2}",
    "10-5",
    "AB = 5",
    "7 remainder 2",
    "0.333...",
]
HELD = [
    ("1.234.567", r"\boxed{1234567}", 1),
    ("1e5", "100000", 1),
    ("5%", r"\boxed{0.05}", 0),
    ("5．5", "5.5", 1),
    ("42", "所以答案是42。", 1),
    ("2½", "2.5", 1),
    ("1st", "1", 1),
    ("72", "\\boxed{72}\n\n### Check 2", 1),
    (r"12 \frac{1}{2}\%", "12.5", 1),
    ("1_000_000", "1000000", 1),
    ("2 x 10^3", "2000", 1),
    ("1.5E+03", "1500", 1),
    ("18 dollars", r"\boxed{18}", 1),
    ("5.", "5", 1),
    ("1e-3", r"\boxed{0.001}", 1),
    ("3 1/2", r"\boxed{\frac{7}{2}}", 1),
    ("-3 1/2", "-3.5", 1),
    ("5 km/h", r"\boxed{5\text{ km/h}}", 1),
    ("7 pm", "7", 1),
    ("2 million", r"\boxed{2000000}", 1),
    ("3 dozen eggs", "36", 1),
    ("x = 5", r"\boxed{x=5}", 1),
    ("f(2) = 5", "5", 1),
    ("The answer is 72.", "72", 1),
    ("Mara has 8 * 9 = 72 apples\n#### 72", "#### 72", 1),
    (r"\boxed{42}", "42", 1),
    (r"90^\circ", "90 degrees", 1),
    ("€5", r"\boxed{5}", 1),
    ("$18$", "18 €", 1),
    ("1,234.5", "1234.5", 1),
    ("3", r"\boxed{3:4}", 0),
    ("4", r"\boxed{3:4}", 0),
    ("45", "12:45", 0),
    ("8", r"\boxed{2516_8}", 0),
    ("8", "2516_{8}", 0),
    ("2", r"\boxed{(1, 2)}", 0),
    ("4", r"\boxed{1, 2, 4}", 0),
    ("5", r"\boxed{5!}", 0),
    ("4", r"\boxed{4i}", 0),
    ("5", r"\boxed{5x}", 0),
    ("3", r"\boxed{x > 3}", 0),
    ("3", r"x \le 3", 0),
    ("3", r"\pm 3", 0),
    ("3", r"0.\overline{3}", 0),
    ("4", r"\boxed{3 feet 4 inches}", 0),
    ("5", "2020-01-05", 0),
    ("3.7", r"\boxed{\lfloor 3.7 \rfloor}", 0),
    ("2", r"\boxed{\binom{5}{2}}", 0),
    ("9", r"\boxed{7 \text{ or } 9}", 0),
    ("1", r"\boxed{2^{10}-1}", 0),
    ("5", r"\boxed{x + 2 = 5}", 1),
    ("5", "<answer>5</answer>", 1),
    ("5", "=> 5", 1),
    ("5", "# about 5, I think", 1),
    ("7", "The answer is 7!", 1),
    ("5", "Step 3: 5", 1),
    ("7", r"\boxed{6} # 7", 1),
]
"""Ground truth, response, reward."""


def asked(truth: str) -> Prompt:
    return Prompt(position=0, text="How many?", token_ids=(1,), ground_truth=truth)


@pytest.mark.parametrize("truth", REFUSED)
def test_a_truth_that_is_not_one_number_is_refused(truth: str) -> None:
    problem = Numeric().ground_truth_problem(asked(truth))
    assert problem is not None and repr(truth) in problem and "verifier=auto" in problem
    with pytest.raises(ConfigError, match=r"is no number; verifier=\w+ can compare it"):
        Numeric().score_one("5", asked(truth))


@pytest.mark.parametrize(("truth", "response", "reward"), HELD)
def test_rewards(truth: str, response: str, reward: float) -> None:
    assert Numeric().ground_truth_problem(asked(truth)) is None
    assert Numeric().score_one(response, asked(truth)) == reward


@pytest.mark.parametrize(
    ("truth", "verifier"),
    [("(A)", "choice"), ("east", "exact"), ("2020-01-05", "exact"), ("3:4", "math"), ("5!", "math")],
)
def test_the_message_names_the_verifier_that_can(truth: str, verifier: str) -> None:
    assert f"verifier={verifier} can compare it" in str(Numeric().ground_truth_problem(asked(truth)))


@pytest.mark.parametrize(
    ("text", "value", "latex"),
    [
        ("1e-3", 0.001, r"\frac{1}{1000}"),
        ("3 1/2", 3.5, r"\frac{7}{2}"),
        ("-3 1/2", -3.5, r"-\frac{7}{2}"),
        ("2\u00bd", 2.5, r"\frac{5}{2}"),
        ("5.", 5, "5"),
        ("1,234.50", 1234.5, "1234.50"),
        ("18 dollars", 18, "18"),
        ("-$5", -5, "-5"),
        ("2 million", 2e6, "2000000"),
        ("1.5E+03", 1500, "1500"),
        (r"12 \frac{1}{2}\%", 12.5, r"\frac{25}{2}"),
        ("0.10", 0.1, "0.10"),
        ("1st", 1, "1"),
    ],
)
def test_a_number_has_one_reading_as_latex(text: str, value: float, latex: str) -> None:
    found = single_number(text)
    assert found is not None and (float(found.value), found.latex) == (value, latex)
    assert found.percent == text.endswith("%")
