"""`exact`: which text is the answer, and when two answers are the same."""

from __future__ import annotations

import time

import pytest

from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.types import Prompt
from dsrl.verifiers import Exact
from dsrl.verifiers.last_boxed import ends_in_a_box, last_boxed


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("3 + 4 # 7", "7"),
        ("48 / 2 = 24\n#### 72\n", "72"),
        ("# 6, no: # 7 ", "7"),
        (r"\boxed{6} # 7", "7"),
        ("7 #", ""),
        (r"so \boxed{7}", "7"),
        (r"\boxed{6} then \boxed{ \frac{1}{2} }.", r"\frac{1}{2}"),
        (r"\boxed{7", r"\boxed{7"),
        ("  7\n", "7"),
        ("", ""),
    ],
)
def test_the_answer_is_after_the_marker_else_in_the_box_else_everything(response: str, answer: str) -> None:
    assert Exact().extract_answer(response) == answer


@pytest.mark.parametrize(
    ("response", "truth", "reward"),
    [
        ("# 7", "7", 1),
        ("#7", " 7 ", 1),
        ("# 8", "7", 0),
        ("# 7.0", "7", 0),
        ("7 #", "7", 0),
        ("#", "7", 0),
        ("", "7", 0),
        ("# 1,234", "1234", 1),
        ("# 1234567.5", "1,234,567.5", 1),
        ("# 12,34", "1234", 0),
        ("# (1,200)", "(1200)", 0),
        ("# Paris", "Paris", 1),
        ("# paris", "Paris", 0),
        ("# \ud800\0", "7", 0),
    ],
)
def test_rewards(make_rollouts, response: str, truth: str, reward: float) -> None:
    assert Exact().score(make_rollouts([[response]], [truth])).tolist() == [[reward]]


@pytest.mark.parametrize(
    ("response", "truth", "reward"),
    [
        ("# Paris", "paris", 1),
        (r"\boxed{\text{East}}", "east", 1),
        (r"\boxed{east.}", r"$\text{East}$", 1),
        ("It is east.", "east", 1),
        ("The answer is **no solution**", "No solution", 1),
        ("We turn.\nSo it is East", "east", 1),
        ("<think>west?</think> <answer>East</answer>", "east", 1),
        ("2020-01-05", "2020-01-05", 1),
        ("It is 3 feet 4 inches", "3 feet 4 inches", 1),
        (r"\boxed{seat}", "east", 0),
        (r"\boxed{northeast}", "east", 0),
        ("It is not east", "east", 0),
        ("east or west", "east", 0),
        ("", "east", 0),
    ],
)
def test_as_words(make_rollouts, response: str, truth: str, reward: float) -> None:
    assert Exact(words=True).score(make_rollouts([[response]], [truth])).tolist() == [[reward]]


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("\\boxed{72}\n\n### Check 2", "72"),
        ("\\boxed{72}\n# Remarks\n- none", "72"),
        ("\\boxed{6}\n#### 72", "72"),
        ("\\boxed{6} # 7", "7"),
        ("# Paris", "Paris"),
        ("## Solution\n\\boxed{7}", "7"),
    ],
)
def test_a_heading_behind_a_box_is_no_marker(response: str, answer: str) -> None:
    assert Exact().extract_answer(response) == answer


def test_marker_is_a_parameter_and_not_empty() -> None:
    assert build("verifier", {"name": "exact", "marker": "answer:"}).extract_answer("# 6 answer: 7") == "7"
    with pytest.raises(ConfigError, match="marker must not be empty"):
        build("verifier", {"name": "exact", "marker": ""})


def test_a_missing_ground_truth_is_refused(make_rollouts) -> None:
    with pytest.raises(ConfigError, match="no ground truth"):
        Exact().score(make_rollouts([["#"]], [""]))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{1} \boxed{", None),
        (r"\boxed{1\}", None),
        ("boxed{1}", None),
        (r"\boxed{}", ""),
        (r"\fbox{42}", "42"),
        (r"so \boxed {42}", "42"),
        (r"\boxed 42.", "42"),
        (r"\fbox -1,234.5", "-1,234.5"),
        (r"\boxed 1/2 is it", "1/2"),
        (r"\boxed A", "A"),
        (r"Mark your solution with \boxed and a line", None),
        (r"\boxed{5}. I put it into \boxed{} as asked", "5"),
        (r"\boxed{5}, in the form \boxed{...} or \boxed{\ldots}", "5"),
        (r"\boxed{6} \boxed{5} and \boxed{ }", "5"),
    ],
)
def test_last_boxed(text: str, content: str | None) -> None:
    assert last_boxed(text) == content


def test_mathematics_that_is_compared_letter_for_letter_is_told() -> None:
    truths = ["72", "east", r"\frac{\pi}{2}", "(1, 2)", ""]
    prompts = [Prompt(position=0, text="", token_ids=(), ground_truth=truth) for truth in truths]
    (line,) = Exact().summary_of(prompts)
    assert line.startswith("2 of 5 ground truths are mathematics, which verifier=exact compares letter for letter")
    assert Exact().summary_of(prompts[:2]) == Exact(words=True).summary_of(prompts) == []


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        (r"the answer is \boxed{12", True),
        (r"\boxed{5}, so \boxed{", True),
        (r"\boxed{\frac{1}{2}", True),
        (r"\fbox{1", True),
        (r"\boxed{12}", False),
        (r"\boxed{\boxed{12}", False),
        ("12", False),
    ],
)
def test_a_text_that_is_cut_off_in_its_box(text: str, cut: bool) -> None:
    assert ends_in_a_box(text) == cut


def test_last_boxed_is_linear() -> None:
    started = time.monotonic()
    assert last_boxed("\\boxed{" * 300_000) is None
    assert last_boxed("\\boxed{" + "{" * 300_000 + "}" * 300_001) is not None
    assert time.monotonic() - started < 20
