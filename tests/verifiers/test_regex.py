"""`regex`: found, matched whole, or compared with the ground truth; never for long."""

from __future__ import annotations

import time

import pytest

from dsrl.errors import ConfigError
from dsrl.registry import build


@pytest.mark.parametrize(
    ("parameters", "response", "reward"),
    [
        ({"pattern": r"\d+"}, "so 42.", 1),
        ({"pattern": r"\d+"}, "none", 0),
        ({"pattern": r"\d+", "full": True}, "42", 1),
        ({"pattern": r"\d+", "full": True}, "so 42", 0),
        ({"pattern": r"(?s)a.b"}, "a\nb", 1),
        ({"pattern": r"\d+", "compare": True}, "6 or 7", 1),
        ({"pattern": r"\d+", "compare": True}, "7 or 6", 0),
        ({"pattern": r"#### (-?[\d.]+)", "compare": True}, "#### 6\n#### 7", 1),
        ({"pattern": r"#### (-?[\d.]+)", "compare": True}, "7", 0),
        ({"pattern": r"^(\w+)$", "full": True, "compare": True}, "7", 1),
        ({"pattern": r"x(y)?", "compare": True}, "x", 0),
    ],
)
def test_rewards(make_rollouts, parameters, response: str, reward: float) -> None:
    verifier = build("verifier", {"name": "regex", **parameters})
    assert verifier.score(make_rollouts([[response]], ["7"])).tolist() == [[reward]]


def test_the_answer_is_what_is_compared() -> None:
    verifier = build("verifier", {"name": "regex", "pattern": r"is (\d+)", "compare": True})
    assert verifier.extract_answer("it is 6, is 7.") == "7"
    assert verifier.extract_answer("nothing") == ""


@pytest.mark.parametrize("mode", [{}, {"full": True}, {"compare": True}])
def test_a_search_that_explodes_scores_0_in_time(make_rollouts, mode: dict[str, bool]) -> None:
    verifier = build("verifier", {"name": "regex", "pattern": r"(a|aa)+$", "timeout": 0.2, **mode})
    started = time.monotonic()
    assert verifier.score(make_rollouts([["a" * 60 + "b", "aa"]], ["a"])).tolist()[0][0] == 0
    assert time.monotonic() - started < 15


def test_the_ground_truth_is_needed_where_it_is_compared(make_rollouts) -> None:
    assert build("verifier", {"name": "regex", "pattern": "a"}).score(make_rollouts([["a"]], [""])).item() == 1
    with pytest.raises(ConfigError, match="no ground truth"):
        build("verifier", {"name": "regex", "pattern": "a", "compare": True}).score(make_rollouts([["a"]], [""]))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pattern": "(a"}, r"pattern=\(a: not a regular expression, missing \)"),
        ({"pattern": "a", "timeout": 0}, "timeout must be above 0"),
        ({}, "needs a value for pattern"),
    ],
)
def test_impossible_parameters(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("verifier", {"name": "regex", **parameters})
