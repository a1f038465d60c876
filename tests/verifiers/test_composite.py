"""`composite`: a weighted sum with named components."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.verifiers import compute_rewards, extracted_answers_of

REWARDS = Path(__file__).with_name("rewards.py")


LENGTH = {"max_length": 20, "cache": 10}


def composite(**components):
    return build("verifier", {"name": "composite", "components": components})


def test_the_sum_is_weighted_and_components_are_not(make_rollouts) -> None:
    verifier = composite(
        exact=1.0, digits={"name": "regex", "pattern": r"\d", "weight": -0.5}, numeric={"rel_tol": 0.5}
    )
    rewards, components = compute_rewards(verifier, make_rollouts([["4", "5"], ["x", "7"]], ["4", "7.0"]))
    assert rewards.tolist() == [[1.5, 0.5], [0.0, 0.5]]
    assert {name: values.tolist() for name, values in components.items()} == {
        "exact": [[1, 0], [0, 0]],
        "digits": [[1, 1], [0, 1]],
        "numeric": [[1, 1], [0, 1]],
    }
    assert verifier.score(make_rollouts([["4"]], ["4"])).tolist() == [[1.5]]


def test_what_a_component_consists_of_is_named_below_it(make_rollouts) -> None:
    inner = {"name": "composite", "weight": 2.0, "components": {"exact": 1.0, "numeric": 0.5}}
    rewards, components = compute_rewards(composite(inner=inner, exact=1.0), make_rollouts([["4.0"]], ["4"]))
    assert rewards.tolist() == [[1.0]]
    assert {name: values.item() for name, values in components.items()} == {
        "inner": 0.5,
        "inner/exact": 0.0,
        "inner/numeric": 1.0,
        "exact": 0.0,
    }


def test_a_component_that_is_not_applicable_adds_nothing(make_rollouts) -> None:
    verifier = composite(exact=1.0, function={"path": f"{REWARDS}:sometimes", "weight": 0.25, "workers": 1})
    rewards, components = compute_rewards(verifier, make_rollouts([["code", "four"]], ["code"]))
    verifier.close()
    assert rewards.tolist() == [[1.0, 1.0]]
    assert components["function"].isnan().tolist() == [[True, False]]
    assert components["function"][0, 1] == 4
    assert components["applicable"].tolist() == [[1, 1]]


def test_where_no_component_is_applicable_there_is_no_reward(make_rollouts) -> None:
    sometimes = {"name": "function", "path": f"{REWARDS}:sometimes", "workers": 1}
    verifier = composite(one=sometimes, two={**sometimes, "weight": 0.5})
    nested = composite(inner={"name": "composite", "components": {"function": sometimes}}, length=LENGTH)
    rollouts = make_rollouts([["code", "four"]], ["code"])
    rewards, components = compute_rewards(verifier, rollouts)
    with_length, inner = compute_rewards(nested, rollouts)
    verifier.close()
    nested.close()
    assert rewards.nan_to_num(-1).tolist() == verifier.score(rollouts).nan_to_num(-1).tolist() == [[-1, 6]]
    assert components["applicable"].tolist() == [[0, 1]]
    assert with_length.tolist() == [[0, 4]] and inner["inner/applicable"].tolist() == [[0, 1]]
    verifier.close()


def test_the_answer_for_people_is_the_first_components(make_rollouts) -> None:
    rollouts = make_rollouts([["so # 4 ", "5"]], ["4"])
    assert extracted_answers_of(composite(numeric=1.0, format=1.0), rollouts) == ["4", "5"]


def test_problems_of_components_are_found_before_the_run() -> None:
    verifier = composite(exact=1.0, function={"path": f"{REWARDS}:nothing"})
    (problem,) = verifier.check()
    assert "has no function nothing" in problem


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ({}, "components must be a mapping"),
        ({"exct": 1.0}, "unknown verifier 'exct'.*Did you mean 'exact'"),
        ({"exact": {"weigth": 1.0}}, "verifier 'exact' has no parameter 'weigth'"),
        ({"exact": "much"}, "exact must be a weight, or"),
        ({"exact": {"weight": True}}, "the weight of exact must be a finite number, not True"),
        ({"exact": float("nan")}, "the weight of exact must be a finite number, not nan"),
        ({"exact": {"weight": float("inf")}}, "the weight of exact must be a finite number, not inf"),
        ({"mean": {"name": "exact"}}, "cannot be called 'mean'"),
        ({"a/b": {"name": "exact"}}, "cannot be called 'a/b'"),
    ],
)
def test_impossible_components(components, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("verifier", {"name": "composite", "components": components})
