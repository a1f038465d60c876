"""A weighted sum of objectives."""

import pytest
from omegaconf import OmegaConf

from dsrl import build
from dsrl.errors import ConfigError
from dsrl.objectives import KLPenalty


def described(objective):
    return [(weight, type(term).__name__, term.space) for weight, term in objective.terms]


def test_the_default_is_the_joint_mode_of_the_papers_code():
    assert described(build("objective", "mixed")) == [(1.0, "GRPO", "conditional"), (0.01, "NSRPreRL", "marginal")]


def test_a_bare_number_is_a_weight():
    mixed = build("objective", "mixed", objectives={"psr": 2, "nsr": 0.5})
    assert described(mixed) == [(2.0, "PSR", "conditional"), (0.5, "NSR", "conditional")]


def test_fields_beside_the_weight():
    mixed = build("objective", "mixed", objectives={"grpo": {"aggregate": "constant", "coefficient": 3.0}})
    ((weight, term),) = mixed.terms
    assert (weight, term.aggregate, term.coefficient) == (1.0, "constant", 3.0)


def test_one_objective_twice_under_labels():
    entries = {
        "long": {"name": "grpo", "weight": 0.25},
        "marginal": {"name": "grpo", "space": "marginal", "weight": 0.75},
    }
    mixed = build("objective", "mixed", objectives=entries)
    assert described(mixed) == [(0.25, "GRPO", "conditional"), (0.75, "GRPO", "marginal")]
    assert entries["long"] == {"name": "grpo", "weight": 0.25}


def test_coefficient_and_nesting_multiply():
    inner = {"name": "mixed", "weight": 0.5, "coefficient": 3.0, "objectives": {"nsr": 0.1}}
    mixed = build("objective", "mixed", coefficient=2.0, objectives={"grpo": 1.0, "inner": inner})
    assert [weight for weight, _ in mixed.terms] == pytest.approx([2.0, 2.0 * 0.5 * 3.0 * 0.1])


def test_kl_of_an_inner_objective_is_a_weighted_term():
    kl = {"coefficient": 0.1, "estimator": "k2"}
    mixed = build("objective", "mixed", objectives={"grpo": {"weight": 0.5, "kl": kl}, "nsr_prerl": 0.01})
    assert [(weight, type(term)) for weight, term in mixed.terms][1] == (0.5, KLPenalty)
    assert mixed.terms[1][1].kl.coefficient == 0.1
    assert len(mixed.terms) == 3


def test_k1_of_an_inner_objective_is_asked_of_its_term():
    kl = {"coefficient": 0.1, "estimator": "k1"}
    mixed = build("objective", "mixed", objectives={"grpo": {"kl": kl}, "nsr_prerl": 0.01})
    assert [term.reward_kl and term.reward_kl.coefficient for _, term in mixed.terms] == [0.1, None]


def test_terms_are_the_same_objects_every_time():
    mixed = build("objective", "mixed")
    assert all(one is other for (_, one), (_, other) in zip(mixed.terms, mixed.terms, strict=True))


def test_from_a_composed_config():
    spec = OmegaConf.create({"name": "mixed", "objectives": {"rloo": {"weight": 1}, "psr_prerl": 0.5}})
    assert described(build("objective", spec)) == [(1.0, "RLOO", "conditional"), (0.5, "PSRPreRL", "marginal")]


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({}, "objectives must be a mapping"),
        ({"grppo": 1.0}, "unknown objective 'grppo'.*Did you mean 'grpo'"),
        ({"grpo": {"weigth": 1.0}}, "objective 'grpo' has no parameter 'weigth'"),
        ({"grpo": {"weight": "much"}}, "the weight of grpo must be a finite number, not 'much'"),
        ({"grpo": "abc"}, "grpo must be a weight, or {weight: ..., parameter: value}, not 'abc'"),
        ({"grpo": None}, "grpo must be a weight"),
        ({"grpo": {"surrogate": "ppo_clp"}}, "unknown surrogate 'ppo_clp'.*Did you mean 'ppo_clip'"),
    ],
)
def test_what_is_misspelt_is_refused_when_built(objectives, message):
    with pytest.raises(ConfigError, match=message):
        build("objective", "mixed", objectives=objectives)
