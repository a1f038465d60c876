"""`auto`: which form a ground truth has, which verifier scores it, and what the log says."""

from __future__ import annotations

import pytest

from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.types import Prompt
from dsrl.verifiers import Auto, compute_rewards
from dsrl.verifiers.answer_forms import form_of

FORMS = {
    "choice": [
        *("A", "(A)", "A.", "A)", "**B**", "The answer is (C)", "Answer: D", r"\boxed{A. 5 meters}", r"\text{(A)}"),
        *(r"\boxed{C}", "(B) x + y", "D. None of the above", "Option C", "(c)"),
    ],
    "number": [
        *("72", "5.", "1e-3", "3 1/2", "-3/4", "1,234.5", "$18", "18 dollars", "5 km/h", "7 pm", "1st", "2\u00bd"),
        *(r"\frac{3}{4}", r"\boxed{42}", "$7$", "10^3", "2 million", r"90^\circ", r"5\text{ cm}", "1.234.567"),
        *("9 a.m.", "x = 5"),
    ],
    "words": [
        *("east", "Paul", "MATH", "no solution", "yes", "True", r"\text{even}", r"$\text{Monday}$", "t-shirt"),
        *("H2O", "B12", "2020-01-05", "1/2/2020", "12:05", "7:30 pm", "3 feet 4 inches", "January 5, 2020"),
        *("O'Neil", "Apollo 11", "twenty-one", "\u5317\u4eac", "5 to 1", "alpha", "(north, south)"),
        r"3 \text{ feet } 4 \text{ inches}",
    ],
    "math": [
        *("50%", r"50\%", r"\frac{\pi}{2}", "x^2 + 1", r"x \le 3", "(1, 2)", "[1, 4]", "1, 2, 4", "3:4", "12:45"),
        *("2516_8", "5!", r"\binom{5}{2}", r"0.\overline{3}", r"\pm 3", "4i", "7 or 9", "3 and 4", "xy", "ab", "x"),
        *("2 pi", "sin x", "infinity", r"\emptyset", r"x \text{ and } y", r"5 \text{ if } x > 0", "2x", "y = 2x + 3"),
        *(r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "sqrt(2)", "1/2/3", "2^{10}-1", "x+y-z+1=0", "AB", "0.333..."),
        *("x = 2 or x = 3", r"\triangle ABC"),
    ],
}


@pytest.mark.parametrize(("truth", "form"), [(truth, form) for form, truths in FORMS.items() for truth in truths])
def test_the_form_of_a_truth(truth: str, form: str) -> None:
    assert form_of(truth) == form


def asked(truth: str, **fields) -> Prompt:
    return Prompt(position=0, text="q", token_ids=(1,), ground_truth=truth, **fields)


def test_each_form_has_its_verifier_and_its_metric(make_rollouts) -> None:
    truths = ["(A)", "72", "East", r"\frac{\pi}{2}"]
    texts = [["It is (A)", "A or B"], [r"\boxed{72.0}", "27"], ["It is east.", "It is seat."], [r"\boxed{0.5\pi}", "1"]]
    verifier = Auto(math={"name": "math", "workers": 1})
    rewards, components = compute_rewards(verifier, make_rollouts(texts, truths))
    verifier.close()
    assert rewards.tolist() == [[1, 0]] * 4
    assert list(components) == ["choice", "number", "words", "math"]
    for place, values in enumerate(components.values()):
        assert values[place].tolist() == [1, 0] and values.isnan().sum() == 6


def test_it_says_how_many_rows_have_which_form() -> None:
    prompts = [asked(truth) for truth in ["72"] * 1200 + ["(A)"] * 2 + ["east", "3:4"]]
    assert Auto().summary_of(prompts) == [
        "verifier=auto: 2 choice (choice), 1,200 number (numeric), 1 words (exact), 1 math (math)"
    ]
    assert Auto(number="math").summary_of(prompts[:1]) == ["verifier=auto: 1 number (math)"]
    assert Auto().summary_of([]) == []


def test_a_form_may_have_another_verifier(make_rollouts) -> None:
    rollouts = make_rollouts([["99"], ["paris"]], ["100", "Paris"])
    loose = build("verifier", {"name": "auto", "number": {"name": "numeric", "rel_tol": 0.1}, "words": "exact"})
    assert loose.score(rollouts).tolist() == [[1], [0]]
    assert Auto().score(rollouts).tolist() == [[0], [1]]


def test_impossible_parameters() -> None:
    with pytest.raises(ConfigError, match="numric"):
        Auto(number="numric")
    with pytest.raises(ConfigError, match="verifier auto: words must be a verifier"):
        Auto(words=None)


def test_a_truth_that_is_no_text_is_a_problem() -> None:
    tests = asked("{}", structured_ground_truth={"inputs": [1]})
    assert "verifier=python" in str(Auto().ground_truth_problem(tests))
    assert "no ground truth" in str(Auto().ground_truth_problem(asked(" ")))
    with pytest.raises(ConfigError, match="verifier=python"):
        Auto().route(tests)
