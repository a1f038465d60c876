"""`choice`: which letter a ground truth is, and which a response answers with; right values by hand."""

from __future__ import annotations

import time

import pytest

from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.types import Prompt
from dsrl.verifiers import Choice
from dsrl.verifiers.choice_letter import answered_letter, choice_content, choice_letter


@pytest.mark.parametrize(
    ("text", "letter", "content"),
    [
        ("A", "A", None),
        ("(A)", "A", None),
        ("[B]", "B", None),
        ("A.", "A", None),
        ("B)", "B", None),
        ("C:", "C", None),
        ("**D**", "D", None),
        ("$A$", "A", None),
        (r"\text{A}", "A", None),
        (r"\textbf{(A)}", "A", None),
        (r"\mathrm{(B)}", "B", None),
        (r"\boxed{A}", "A", None),
        (r"\boxed{A. 5 meters}", "A", "5 meters"),
        ("A. 5 meters", "A", "5 meters"),
        ("(A) 5 meters", "A", "5 meters"),
        ("A) 5", "A", "5"),
        (r"C. \text{east}", "C", "east"),
        ("D. None of the above", "D", "None of the above"),
        ("The answer is (C)", "C", None),
        ("The correct answer is C.", "C", None),
        ("Answer: C", "C", None),
        ("Option C", "C", None),
        ("(a)", "A", None),
        ("a)", "A", None),
        ("J", "J", None),
        ("a", None, None),
        ("x", None, None),
        ("(x)", None, None),
        ("K", None, None),
        ("A dog", None, None),
        ("A.M.", None, None),
        ("A. B. Smith", None, None),
        ("A, B", None, None),
        ("A and B", None, None),
        ("(A, B)", None, None),
        ("(A) and (B)", None, None),
        ("(A)(B)", None, None),
        ("AB", None, None),
        ("(1)", None, None),
        ("E = mc^2", None, None),
        ("", None, None),
    ],
)
def test_the_letter_of_a_truth(text: str, letter: str | None, content: str | None) -> None:
    assert choice_letter(text) == letter
    if letter:
        assert choice_content(text) == content


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        (r"\boxed{B}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        (r"\boxed{A. 5 meters}", "A"),
        (r"\boxed{b}", "B"),
        (r"\boxed{A}, no: \boxed{C}", "C"),
        (r"The answer is (A): \boxed{5 meters}", None),
        (r"\boxed{A, B}", None),
        (r"\boxed{A or B}", None),
        ("The answer is (C).", "C"),
        ("The answer is C.", "C"),
        ("the answer is **C**", "C"),
        ("The answer is C because A. is wrong", "C"),
        ("**Answer:** C", "C"),
        ("Answer: **C. 5 meters**", "C"),
        (r"The answer is: \textbf{(E)}", "E"),
        (r"The final answer is $\text{(C)}$", "C"),
        ("ANSWER: D", "D"),
        ("Answer: A", "A"),
        ("The answer is A", "A"),
        ("The correct option is D because it fits", "D"),
        ("The best choice is\nB", "B"),
        ("\u7b54\u6848\u662fC", "C"),
        ("\u7b54\u6848\uff1aD", "D"),
        ("I choose B.", "B"),
        ("answer is (C), not (D)", "C"),
        ("The answer is (D). (A) is too small.", "D"),
        ("The answer isn't B, it is C", "C"),
        ("option B is wrong; option C is correct", "C"),
        ("The answer is (A). Wait: the answer is (B).", "B"),
        ("So the answer is (A) or (B).", None),
        ("The answer is A or B", None),
        ("answer is (A), (B)", None),
        ("The answer is not (B)", None),
        ("The answer is A cat", None),
        ("Between (A) and (B), it is (B)", "B"),
        ("I think it's B", "B"),
        ("Therefore, C", "C"),
        ("A", "A"),
        ("(b)", "B"),
        ("b", "B"),
        ("A. First we look.\nThe answer is B", "B"),
        ("A cat sat on a mat.", None),
        ("I do not know", None),
        ("<answer>A</answer>", "A"),
        ('{"answer": "A"}', "A"),
        ("P(A) is larger", None),
        ("", None),
    ],
)
def test_the_letter_of_a_response(response: str, letter: str | None) -> None:
    assert answered_letter(response) == letter
    assert Choice().extract_answer(response) == (letter or "")


@pytest.mark.parametrize(
    ("truth", "response", "reward"),
    [
        ("(A)", r"\boxed{A}", 1),
        ("A", "The answer is (A).", 1),
        ("A", "The answer is (B).", 0),
        ("a", "The answer is (A).", 1),
        ("The answer is (C)", "C", 1),
        ("A. 5 meters", r"\boxed{5 \text{ meters}}", 1),
        ("A. 5 meters", r"\boxed{6 \text{ meters}}", 0),
        ("A. 5 meters", r"\boxed{B. 5 meters}", 0),
        ("A", "A dog", 0),
        ("A", "", 0),
    ],
)
def test_rewards(make_rollouts, truth: str, response: str, reward: float) -> None:
    assert Choice().score(make_rollouts([[response]], [truth])).tolist() == [[reward]]


def test_letters_are_a_parameter() -> None:
    few = build("verifier", {"name": "choice", "letters": "ABCD"})
    assert few.extract_answer("(E)") == "" and few.extract_answer("(D)") == "D"
    asked = Prompt(position=0, text="Which?", token_ids=(1,), ground_truth="E")
    assert "'E' is no letter of ABCD" in str(few.ground_truth_problem(asked))
    with pytest.raises(ConfigError, match="verifier choice: the ground truth 'E' is no letter .* begins 'Which"):
        few.score_one("E", asked)
    for letters in ("", "abc", "A-D"):
        with pytest.raises(ConfigError, match="letters must be capital letters"):
            Choice(letters=letters)


PARTS = ["answer is ", " ", "\n", " \n", "*", "(A) or ", "not ", "answer to ", "a ", "{", r"\text{", r"\boxed{", "A."]


@pytest.mark.parametrize("part", [*PARTS, "answer:", "(A", "A, "])
def test_reading_takes_time_in_proportion_to_the_text(part: str) -> None:
    for text in (part * (10_000 // len(part)), "answer is " + part * (10_000 // len(part))):
        started = time.thread_time()
        answered_letter(text)
        choice_letter(text)
        assert time.thread_time() - started < 1
