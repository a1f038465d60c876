"""`numeric`: how near is near enough."""

from __future__ import annotations

import pytest

from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.verifiers import Numeric


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
        ({}, "so 7 m^2", "5 m^2", 0),
        ({}, "so 5 m^2", "5 m^2", 1),
        ({}, r"\boxed{9\text{ cm}^{3}}", r"4\text{ cm}^{3}", 0),
        ({}, r"\boxed{5 m^2}", "5", 1),
        ({}, "3", "10^3", 0),
        ({}, r"\boxed{\sqrt{2}}", "2", 0),
    ],
)
def test_rewards(make_rollouts, parameters, response: str, truth: str, reward: float) -> None:
    assert Numeric(**parameters).score(make_rollouts([[response]], [truth])).tolist() == [[reward]]


@pytest.mark.parametrize("truth", ["seven", r"\sqrt{2}", r"\frac{\pi}{2}", "x - 5"])
def test_a_ground_truth_without_a_number_is_the_users_error(make_rollouts, truth: str) -> None:
    with pytest.raises(ConfigError, match="is no number; .* The question begins 'question 0'") as told:
        Numeric().score(make_rollouts([["7"]], [truth]))
    assert repr(truth) in str(told.value)


@pytest.mark.parametrize("parameters", [{"rel_tol": -1}, {"abs_tol": float("nan")}, {"marker": ""}])
def test_impossible_parameters(parameters: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"verifier numeric: {next(iter(parameters))} must"):
        build("verifier", {"name": "numeric", **parameters})
