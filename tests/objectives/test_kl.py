"""The pull to the reference: estimators by hand, and where each belongs."""

import math

import pytest
import torch

from dsrl import build
from dsrl.errors import ConfigError
from dsrl.objectives import KL, KLPenalty
from dsrl.objectives.kl import ESTIMATORS
from dsrl.types import Counts, LossBatch

HALF = math.log(0.5)


def value_and_gradient(name, logprob, reference):
    logprobs = torch.tensor([[logprob]], dtype=torch.float64, requires_grad=True)
    value = ESTIMATORS[name](logprobs, torch.tensor([[reference]], dtype=torch.float64))
    value.sum().backward()
    return value.item(), logprobs.grad.item()


@pytest.mark.parametrize(
    ("name", "value", "gradient"),
    [
        ("k1", math.log(2), 1.0),
        ("k2", math.log(2) ** 2 / 2, math.log(2)),
        ("k3", 0.5 - HALF - 1, 1 - 0.5),  # d = log(1/2): e^d - d - 1, and -e^d + 1
    ],
)
def test_policy_twice_as_likely_as_reference(name, value, gradient):
    found = value_and_gradient(name, HALF, math.log(0.25))
    assert found == (pytest.approx(value, abs=1e-12), pytest.approx(gradient, abs=1e-12))


@pytest.mark.parametrize("name", ["k2", "k3"])
@pytest.mark.parametrize("difference", [-1.0, 1.0])
def test_the_loss_pulls_towards_the_reference(name, difference):
    value, gradient = value_and_gradient(name, -1.0 + difference, -1.0)
    assert value > 0
    assert math.copysign(1, gradient) == math.copysign(1, difference)


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
def test_zero_at_the_reference(name):
    assert value_and_gradient(name, -1.5, -1.5)[0] == 0.0


def test_expectations_are_the_divergence():
    """Under the policy, k1 and k3 have the mean KL(policy, reference), and k2 its gradient (exact, over 3 tokens)."""
    logits = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.0, 0.4, 0.2], dtype=torch.float64).log_softmax(0)
    policy = logits.log_softmax(0)
    divergence = (policy.exp() * (policy - reference)).sum()
    for name in ("k1", "k3"):
        mean = (policy.exp() * ESTIMATORS[name](policy, reference)).sum()
        assert mean.item() == pytest.approx(divergence.item(), abs=1e-12)
    (expected,) = torch.autograd.grad(divergence, logits, retain_graph=True)
    surrogate = (policy.detach().exp() * ESTIMATORS["k2"](policy, reference)).sum()
    (found,) = torch.autograd.grad(surrogate, logits)
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-12)


@pytest.mark.parametrize(
    ("coefficient", "estimator", "in_reward", "in_loss"),
    [(0.0, "k1", False, False), (0.0, "k3", False, False), (0.1, "k1", True, False), (0.1, "k2", False, True)]
    + [(0.1, "k3", False, True)],
)
def test_where_it_belongs(coefficient, estimator, in_reward, in_loss):
    kl = KL(coefficient=coefficient, estimator=estimator)
    assert (kl.in_reward, kl.in_loss) == (in_reward, in_loss)
    objective = build("objective", "grpo", kl={"coefficient": coefficient, "estimator": estimator})
    assert objective.reward_kl == (kl if in_reward else None)
    assert len(objective.terms) == (2 if in_loss else 1)


def test_kl_is_a_term_with_space_and_denominator_of_its_own():
    objective = build(
        "objective",
        "nsr_prerl",
        coefficient=0.01,
        aggregate="seq_mean_token_sum",
        kl={"coefficient": 0.5, "estimator": "k2"},
    )
    (weight, itself), (pull_weight, pull) = objective.terms
    assert (weight, itself, itself.space) == (1.0, objective, "marginal")
    assert (pull_weight, pull.space, pull.needs_reference) == (1.0, "conditional", True)
    assert not itself.needs_reference
    rewards = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    advantages = pull.advantages(rewards)
    kept = pull.kept(rewards, advantages)
    assert kept.all() and pull.scored(kept, advantages).all()
    # Differences 1, 1, -> k2 1/2 + 1/2; and 2 -> k2 2: sums 1 and 2 over 2 sequences, times 0.5 * 0.01.
    mask = torch.tensor([[True, True], [True, False]])
    logprobs = torch.tensor([[-1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    reference = torch.tensor([[-2.0, -2.0], [-3.0, 50.0]], dtype=torch.float64)
    batch = LossBatch(
        old_logprobs=logprobs,
        mask=mask,
        advantages=torch.zeros(2),
        counts=Counts.of(mask),
        reference_logprobs=reference,
    )
    out = pull.loss(logprobs, batch)
    assert out.loss.item() == pytest.approx(0.01 * 0.5 * 1.5, abs=1e-15)
    kl = out.metrics["kl/mean"]
    assert (float(kl.sum), int(kl.count)) == (pytest.approx(3.0, abs=1e-15), 3)


def test_kl_space_can_be_chosen():
    objective = build("objective", "nsr_prerl", kl=KL(coefficient=0.1, space="marginal"))
    assert [term.space for _, term in objective.terms] == ["marginal", "marginal"]


@pytest.mark.parametrize("estimator", ["k2", "k3"])
@pytest.mark.parametrize("aggregate", ["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "constant"])
def test_shares_add_up(estimator, aggregate):
    generator = torch.Generator().manual_seed(3)
    logprobs = -torch.rand(5, 4, generator=generator, dtype=torch.float64)
    reference = -torch.rand(5, 4, generator=generator, dtype=torch.float64)
    mask = torch.arange(4) < torch.tensor([[4], [1], [0], [2], [3]])
    counts = Counts.of(mask, max_new_tokens=6)
    pull = KLPenalty(kl=KL(coefficient=0.3, estimator=estimator), aggregate=aggregate)

    def share(rows):
        batch = LossBatch(
            old_logprobs=logprobs[rows],
            mask=mask[rows],
            advantages=torch.zeros(len(rows)),
            counts=counts,
            reference_logprobs=reference[rows],
        )
        out = pull.loss(logprobs[rows], batch)
        return out.loss.item(), float(out.metrics["kl/mean"].sum), int(out.metrics["kl/mean"].count)

    whole = share([0, 1, 2, 3, 4])
    assert whole[0] > 0
    for part in range(3):
        assert share([3])[part] + share([0, 4])[part] + share([1, 2])[part] == pytest.approx(whole[part], abs=1e-14)


def test_impossible_values_are_refused():
    with pytest.raises(ConfigError, match="kl.coefficient must be at least 0, not -0.1"):
        KL(coefficient=-0.1)
    with pytest.raises(ConfigError, match="kl.estimator must be one of k1, k2, k3, not 'k4'"):
        build("objective", "grpo", kl={"estimator": "k4"})
    with pytest.raises(ConfigError, match="kl has no parameter 'coef'.*Did you mean 'coefficient'"):
        build("objective", "grpo", kl={"coef": 0.1})
