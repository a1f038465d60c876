"""Which tokens count, against choices made by hand; and a baseline that takes the common mode out of NSR."""

import math

import pytest
import torch

from dsrl import build
from dsrl.errors import ConfigError
from dsrl.types import Counts, LossBatch

NOTHING: dict[str, torch.Tensor] = {}


def logs(*probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()


def test_known_without_the_question():
    """P(y_t) of 0.5, 0.25, 0.24, 0.9 beside P(y_t|x) of 0.5, 0.5, 0.5, 0.1."""
    scores = {"marginal": logs(0.5, 0.25, 0.24, 0.9), "conditional": logs(0.5, 0.5, 0.5, 0.1)}
    assert build("token_weight", "known").counts(scores, NOTHING).tolist() == [True, True, False, True]
    strict = build("token_weight", {"name": "known", "share": 1.0})
    assert strict.counts(scores, NOTHING).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.2, [5.0]), (0.21, [4.0, 5.0]), (0.4, [4.0, 5.0]), (0.6, [2.0, 2.0, 4.0, 5.0]), (1.0, None)],
)
def test_the_top_share_by_entropy(share, expected):
    """At least that share: equal entropies at the edge all count. The order of tokens is nothing to it."""
    entropies = torch.tensor([2.0, 5.0, 1.0, 4.0, 2.0])
    part = build("token_weight", {"name": "entropy", "share": share})
    for order in (torch.arange(5), torch.tensor([3, 0, 4, 2, 1])):
        values = entropies[order]
        found = sorted(values[part.counts(NOTHING, {"conditional": values})].tolist())
        assert found == (expected or sorted(entropies.tolist()))
    assert part.counts(NOTHING, {"conditional": torch.zeros(0)}).tolist() == []


def test_the_top_share_of_a_policy_that_is_nearly_certain():
    entropies = torch.linspace(1e-6, 9e-5, 100)
    part = build("token_weight", {"name": "entropy", "share": 0.2})
    assert part.counts(NOTHING, {"conditional": entropies}).sum() == 20


@pytest.mark.parametrize(
    "spec", [{"name": "entropy", "share": 0}, {"name": "entropy", "share": 1.5}, {"name": "known", "share": 0}]
)
def test_impossible_shares(spec):
    with pytest.raises(ConfigError, match=f"token_weight {spec['name']}: share must be .*, not {spec['share']}"):
        build("objective", "nsr_prerl", token_weight=spec)


def test_all_is_no_choice():
    assert build("objective", "grpo").chosen_tokens is None
    chosen = build("objective", "grpo", token_weight={"name": "known", "share": 0.25}).chosen_tokens
    assert chosen.share == 0.25 and chosen.spaces == ("marginal", "conditional") and not chosen.compares


REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)


def test_centred_weights_add_up_to_0():
    weights = build("advantage", "negative_centered")(REWARDS)
    negative = [0, -0.5, -0.5, 0, 0, 0, 0, 0, -0.25, -0.25, -0.25, 0]
    mean = sum(negative) / 12
    assert weights.flatten().tolist() == pytest.approx([value - mean for value in negative])
    assert float(weights.sum()) == pytest.approx(0.0, abs=1e-12)
    assert build("advantage", "negative_centered")(torch.full((2, 3), 0.1)).tolist() == [[0.0] * 3] * 2


def gradient_of_the_common_mode(objective, lengths):
    """d loss / d theta where theta is added to the log-probability of every token: what lowers all alike."""
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    logprobs = torch.full((12, 5), -1.0, dtype=torch.float64) + theta
    advantages = objective.advantages(REWARDS)
    kept = objective.kept(REWARDS, advantages).flatten()
    batch = LossBatch(
        old_logprobs=logprobs.detach(),
        mask=mask & kept[:, None],
        advantages=advantages.flatten(),
        counts=Counts.of(mask[kept]),
    )
    (gradient,) = torch.autograd.grad(objective.loss(logprobs, batch).loss, theta)
    return float(gradient)


UNEQUAL = [1, 5, 2, 3, 4, 5, 1, 1, 2, 5, 3, 4]


@pytest.mark.parametrize(
    ("aggregate", "lengths"), [("seq_mean_token_mean", UNEQUAL), ("token_mean", [4] * 12), ("constant", [3] * 12)]
)
def test_the_common_mode_is_gone(aggregate, lengths):
    centred = build("objective", "prerl", advantage="negative_centered", aggregate=aggregate)
    assert gradient_of_the_common_mode(centred, lengths) == pytest.approx(0.0, abs=1e-15)
    plain = build("objective", "nsr_prerl", aggregate=aggregate)
    assert gradient_of_the_common_mode(plain, lengths) > 0.1 or aggregate == "constant"  # theta falls


def test_under_a_mean_over_tokens_lengths_leave_some_of_it():
    centred = build("objective", "prerl", advantage="negative_centered")
    assert abs(gradient_of_the_common_mode(centred, UNEQUAL)) > 1e-3
    assert math.isclose(float(centred.advantages(REWARDS).sum()), 0.0, abs_tol=1e-12)
