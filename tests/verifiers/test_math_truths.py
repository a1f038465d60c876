"""Ground truths that are not LaTeX, and LaTeX that looks like something else; right values by hand."""

from __future__ import annotations

import pytest

from dsrl.errors import ConfigError
from dsrl.types import Prompt
from dsrl.verifiers import Math, score_texts
from dsrl.verifiers.math_reading import read_truth

CASES = [
    ("x=5", r"\boxed{x=5}", 1),
    ("x=5", r"\boxed{5}", 1),
    ("5", r"\boxed{x = 5}", 1),
    ("x = 1e-3", r"\boxed{x=0.001}", 1),
    ("y=5", r"\boxed{y = 5}", 1),
    ("1e-3", r"\boxed{0.001}", 1),
    ("0.001", r"\boxed{1e-3}", 1),
    ("1e-3", "It is 1e-3.", 1),
    ("1e-3", r"\boxed{1e-4}", 0),
    ("1e-7", r"\boxed{2e-7}", 0),
    ("0.0000001", r"\boxed{1e-7}", 1),
    ("3 1/2", r"\boxed{3 1/2}", 1),
    ("3.5", r"\boxed{3 1/2}", 1),
    ("3 1/2", "The answer is 3 1/2.", 1),
    ("3 1/2", r"\boxed{3/2}", 0),
    ("3 1/2", r"\boxed{\frac{3}{2}}", 0),
    ("-3 1/2", r"\boxed{-3.5}", 1),
    ("50%", r"\boxed{0.5}", 1),
    ("50%", r"\boxed{50}", 1),
    ("50%", r"\boxed{5\%}", 0),
    ("50%", r"\boxed{\frac12}", 1),
    ("50%", r"It is $50\%$.", 1),
    ("50%", "The answer is 50 percent", 1),
    ("12.5%", r"\boxed{12.5\%}", 1),
    ("12.5%", r"\boxed{12\frac{1}{2}\%}", 1),
    (r"12\frac{1}{2}\%", r"\boxed{12.5\%}", 1),
    ("50%", r"\boxed{50%}", 1),
    ("50 percent", r"\boxed{50\%}", 1),
    ("150%", r"\boxed{1.5}", 1),
    ("-5%", r"\boxed{-5\%}", 1),
    ("50", r"\boxed{50\%}", 0),
    ("50", "50%", 1),
    ("18 dollars", r"\boxed{18}", 1),
    ("18 dollars", r"\boxed{\$18}", 1),
    ("18 dollars", "She pays 18 dollars.", 1),
    ("18 dollars", r"\boxed{18\text{ dollars}}", 1),
    ("18 dollars", r"\boxed{81}", 0),
    ("$18", r"\boxed{18}", 1),
    ("18", r"\boxed{18 dollars}", 1),
    ("5 km/h", r"\boxed{5\text{ km/h}}", 1),
    ("5 km/h", r"\boxed{6 km/h}", 0),
    ("7 pm", r"\boxed{7 pm}", 1),
    ("1,234", r"\boxed{1234}", 1),
    ("1_000", r"\boxed{1000}", 1),
    ("2 million", r"\boxed{2000000}", 1),
    ("2 million", r"\boxed{2}", 0),
    ("2 million", r"\boxed{2 million}", 1),
    ("1st", r"\boxed{1}", 1),
    ("2½", r"\boxed{2.5}", 1),
    ("5.", r"\boxed{5.}", 1),
    ("5.", r"\boxed{5.0}", 1),
    ("5.", r"\boxed{50}", 0),
    ("listen", r"\boxed{silent}", 0),
    ("listen", r"\boxed{Listen}", 1),
    ("listen", r"\boxed{\text{listen}}", 1),
    ("listen", "The answer is listen.", 1),
    ("listen", "It is **listen**", 1),
    ("listen", r"\boxed{listen.}", 1),
    ("east", "east", 1),
    ("east", "so we go East.", 0),
    ("east", r"The answer is $\text{east}$", 1),
    ("no", r"\boxed{on}", 0),
    ("no", r"\boxed{No}", 1),
    ("yes", "Yes", 1),
    ("evil", r"\boxed{vile}", 0),
    (r"\text{east}", r"\boxed{east}", 1),
    (r"\text{east}", r"\boxed{seat}", 0),
    (r"$\text{Monday}$", r"\boxed{monday}", 1),
    ("no solution", r"\boxed{\text{no solution}}", 1),
    ("no solution", r"\boxed{no solutions}", 0),
    ("H2O", r"\boxed{H2O}", 1),
    ("H2O", r"\boxed{HO2}", 0),
    ("the dog", r"\boxed{god the}", 0),
    ("Paul", r"\boxed{Paul}", 1),
    ("True", r"\boxed{true}", 1),
    ("2020-01-05", r"\boxed{2014}", 0),
    ("2020-01-05", r"\boxed{2020-01-05}", 1),
    ("12:05", r"\boxed{12:05}", 1),
    ("12:45", "12:45", 1),
    ("12:45", r"\boxed{12:45}", 1),
    ("12:45", r"\boxed{11:45}", 0),
    ("7:30 pm", r"\boxed{7:30 PM}", 1),
    ("7:30 pm", r"\boxed{7:30 am}", 0),
    ("3 feet 4 inches", r"\boxed{3 feet 4 inches}", 1),
    ("3 feet 4 inches", r"\boxed{9 feet 4 inches}", 0),
    (r"3 \text{ feet } 4 \text{ inches}", r"\boxed{3}", 0),
    (r"3 \text{ feet } 4 \text{ inches}", r"\boxed{3 feet 4 inches}", 1),
    ("(A)", r"\boxed{A}", 1),
    ("A", r"\boxed{(A)}", 1),
    ("A", "The answer is (A).", 1),
    ("A", "The answer is (B).", 0),
    ("A. 5 meters", r"\boxed{A}", 1),
    ("A. 5 meters", r"\boxed{5\text{ meters}}", 1),
    ("A. 5 meters", r"\boxed{B}", 0),
    ("The answer is (C)", r"\boxed{C}", 1),
    (r"\text{(C)}", r"$\text{(C)}$", 1),
    ("(C)", r"\boxed{\text{(C)}}", 1),
    ("3:4", r"\boxed{3:4}", 1),
    ("3:4", r"\boxed{1:4}", 0),
    ("3:4", "The ratio is 3:4", 1),
    ("3:4", r"\boxed{\frac{3}{4}}", 1),
    ("1011_2", r"\boxed{1011_2}", 1),
    ("1011_2", r"\boxed{111_2}", 0),
    ("1011_2", r"\boxed{1011_3}", 0),
    ("1011_2", r"\boxed{1011_{2}}", 1),
    ("2516_{8}", r"\boxed{2516}", 1),
    ("1A_{16}", r"\boxed{A1_{16}}", 0),
    ("1A_{16}", r"\boxed{1A_{16}}", 1),
    ("[1, 4]", r"\boxed{[1,4]}", 1),
    ("[1, 4]", r"\boxed{(1,4)}", 0),
    ("(1, 2)", r"\boxed{(1,2)}", 1),
    ("(1, 2)", r"\boxed{(2,1)}", 0),
    ("1, 2, 4", r"\boxed{4, 2, 1}", 1),
    ("1, 2, 4", r"\boxed{4}", 0),
    ("5!", r"\boxed{120}", 1),
    ("5!", r"\boxed{5}", 0),
    (r"\binom{5}{2}", r"\boxed{10}", 1),
    (r"0.\overline{3}", r"\boxed{\frac13}", 1),
    (r"0.\overline{3}", r"\boxed{0.\overline{3}}", 1),
    (r"0.\overline{3}", r"\boxed{0.3}", 0),
    (r"0.1\overline{6}", r"\boxed{1/6}", 1),
    ("1/3", r"\boxed{0.\overline{3}}", 1),
    (r"\lfloor 3.7 \rfloor", r"\boxed{3}", 1),
    (r"\pm 3", r"\boxed{3}", 0),
    (r"\pm 3", r"\boxed{-3, 3}", 1),
    (r"x \le 3", r"\boxed{x \le 3}", 1),
    (r"x \le 3", r"\boxed{x > 3}", 0),
    ("4i", r"\boxed{4i}", 1),
    ("4i", r"\boxed{4}", 0),
    ("7 or 9", r"\boxed{9, 7}", 1),
    ("3 and 4", r"\boxed{4}", 0),
    ("2 pi", r"\boxed{2\pi}", 1),
    ("2pi", r"\boxed{2\pi}", 1),
    ("pi", r"\boxed{\pi}", 1),
    ("xy", r"\boxed{yx}", 1),
    ("xy", r"\boxed{x+y}", 0),
    ("infinity", r"\boxed{\infty}", 1),
    ("sqrt(2)", r"\boxed{\sqrt{2}}", 1),
    ("x^2", r"\boxed{x^2}", 1),
    ("1/2/3", r"\boxed{1/6}", 1),
    ("2^{10}-1", r"\boxed{1023}", 1),
    ("北京", r"\boxed{北京}", 1),
    (r"\left\{1,2\right\}", r"\boxed{\{2,1\}}", 1),
    ("{1,2}", r"\boxed{1,2}", 1),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}", 1),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\boxed{\begin{pmatrix} 7 \\ 2 \end{pmatrix}}", 0),
    ("0.5", r"\boxed{50\%}", 1),
    ("0.5", r"\boxed{5\%}", 0),
    (r"\frac{1}{2}\text{ cup}", r"\boxed{0.5}", 1),
    (r"\frac{1}{2}\text{ cup}", r"\boxed{\frac12 \text{ cups}}", 1),
    (r"18\text{ apples}", r"\boxed{18}", 1),
    ("18", r"\boxed{18\text{ apples}}", 1),
    ("18", r"\boxed{81\text{ apples}}", 0),
    (r"x = 5\text{ cm}", r"\boxed{5}", 1),
    (r"90^\circ C", r"\boxed{90}", 1),
    ("$1.5 million", r"\boxed{1500000}", 1),
    ("3/4 cup", r"\boxed{0.75}", 1),
    ("6.02e23", r"\boxed{6.02 \times 10^{23}}", 1),
    ("6.02e23", r"\boxed{6.03 \times 10^{23}}", 0),
    (r"6.02 \times 10^{23}", r"\boxed{6.02e23}", 1),
    (r"1.5 \times 10^{-7}", r"\boxed{2.5 \times 10^{-7}}", 0),
    ("stressed", r"\boxed{desserts}", 0),
    ("16 square feet", r"\boxed{16 \text{ ft}^2}", 1),
    ("12 1/4", r"\boxed{3}", 0),
    ("5 ft 3 in", r"\boxed{3}", 0),
    ("33 1/3%", r"\boxed{33\frac{1}{3}\%}", 1),
    ("2:3:4", r"\boxed{4:3:2}", 0),
    ("x > 3", r"\boxed{x<3}", 0),
    ("**42**", r"\boxed{42}", 1),
    (r"$x^2$.", r"\boxed{x^2}", 1),
    ("10 %", r"\boxed{10\%}", 1),
    ("east", "<think>west?</think> <answer>East</answer>", 1),
    ("0.0000001", r"\boxed{0.0000002}", 0),  # math-verify rounds both to 0
    ("0.0000001", r"\boxed{1e-7}", 1),
    ("1.6e-19", r"\boxed{9.1e-31}", 0),
    ("1.6e-19", r"\boxed{1.6 \times 10^{-19}}", 1),
    (r"1.6 \times 10^{-19}", r"\boxed{1.6e-19}", 1),
    (r"1.6 \times 10^{-19}", r"\boxed{3.2 \times 10^{-19}}", 0),
    (r"1.6 \times 10^{-19}", r"\boxed{-1.6 \times 10^{-19}}", 0),
    (r"\frac{1}{2^{99}}", r"\boxed{\frac{1}{2^{98}}}", 0),
    (r"\frac{1}{2^{99}}", r"\boxed{2^{-99}}", 1),
    (r"\frac{1}{2004!}", r"\boxed{\frac{1}{2006!}}", 0),
    (r"\frac{1}{2004!}", r"\boxed{\frac{1}{2004!}}", 1),
    (r"e^{-40}", r"\boxed{e^{-41}}", 0),
    (r"e^{-40}", r"\boxed{\frac{1}{e^{40}}}", 1),
    (r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}", r"\boxed{\frac{1}{3 \cdot 2^{2006}}}", 0),  # a sixth, and nearly 0
    ("0", r"\boxed{0.0000001}", 0),
    ("0", r"\boxed{\frac{1}{2^{99}}}", 0),
    ("0", r"\boxed{0.00}", 1),
    ("(1, 0.0000001)", r"\boxed{(1, 0.0000002)}", 0),
    (r"\{2^{-60}, 1\}", r"\boxed{\{1, 2^{-61}\}}", 0),
    (r"\{2^{-60}, 1\}", r"\boxed{\{1, \frac{1}{2^{60}}\}}", 1),
    (r"x = 2^{-60}", r"\boxed{x = 2^{-61}}", 0),
    (r"[0, 2^{-60}]", r"\boxed{[0, 2^{-61}]}", 0),
    (r"\begin{pmatrix} 2^{-60} \\ 1 \end{pmatrix}", r"\boxed{\begin{pmatrix} 2^{-61} \\ 1 \end{pmatrix}}", 0),
    (r"\frac{1}{1024}", r"\boxed{0.000977}", 1),  # six places, as math-verify allows
    ("0.05%", r"\boxed{0.05\%}", 1),
    ("42", r"so \fbox{42}, not 7", 1),
    (r"\frac12", r"$\fbox{\frac{1}{2}}$ for 7", 1),
    ("42", r"\boxed 42. It is not 7", 1),
    ("x+1", r"\boxed {x+1}, at x = 3", 1),
    (r"\sqrt{2}", r"\boxed{\sqrt{2}}. I have put it into \boxed{} as asked", 1),
    ("5", r"\boxed{5}, and not \boxed{}", 1),
    ("12", r"the answer is \boxed{12", 0),  # perhaps of 125
    (r"x + 1", r"the answer is \boxed{x + 1", 0),
    ("5", r"first \boxed{5}, but no, \boxed{", 0),
    ("east", r"the answer is \boxed{east", 0),
]
"""Ground truth, response, reward."""

OTHERWISE_BY_AUTO = {
    *(("50", r"\boxed{50\%}"), ("0.5", r"\boxed{50\%}"), ("1/3", r"\boxed{0.\overline{3}}")),
    (r"\frac{1}{1024}", r"\boxed{0.000977}"),
}
"""Numbers, which auto gives to numeric: 50% is 50, a repeating decimal is no number, and six places are not enough."""


@pytest.fixture(scope="module")
def scored() -> dict[str, list[float]]:
    """The rewards of all cases, by each of the verifiers that read every truth."""
    truths, responses = [truth for truth, _, _ in CASES], [response for _, response, _ in CASES]
    patient = {"name": "math", "workers": 1, "timeout": 30}
    verifiers = {"math": patient, "auto": {"name": "auto", "math": patient}}
    return {name: score_texts(spec, responses, ground_truths=truths) for name, spec in verifiers.items()}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{truth} | {response}" for truth, response, _ in CASES])
def test_rewards(scored, number: int) -> None:
    truth, response, reward = CASES[number]
    assert scored["math"][number] == reward
    assert scored["auto"][number] == (1 - reward if (truth, response) in OTHERWISE_BY_AUTO else reward)


def test_a_word_never_reaches_math_verify() -> None:
    for truth in ("listen", "no", "MATH", r"\text{east}", "H2O", "3 feet 4 inches", "2020-01-05"):
        assert read_truth(truth).latex == ()


def test_a_truth_that_is_no_text_is_a_problem_before_the_run() -> None:
    tests = Prompt(position=0, text="q", token_ids=(), ground_truth="{}", structured_ground_truth={"inputs": [1]})
    assert "verifier=python" in str(Math().ground_truth_problem(tests))
    assert Math().ground_truth_problem(Prompt(position=0, text="q", token_ids=(), ground_truth="east")) is None
    with pytest.raises(ConfigError, match="not text"):
        Math().score_all(["1"], [tests])
