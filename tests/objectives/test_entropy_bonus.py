"""The bonus pushes as the gradient of the entropy does, in expectation over what the policy samples."""

import pytest
import torch

from dsrl import compose
from dsrl.objectives import EntropyBonus
from dsrl.types import Counts, LossBatch


def loss(logprobs, weight=1.0):
    mask = torch.ones_like(logprobs, dtype=torch.bool)
    batch = LossBatch(
        old_logprobs=logprobs.detach(), mask=mask, advantages=torch.zeros(len(logprobs)), counts=Counts.of(mask)
    )
    return EntropyBonus(coefficient=weight).loss(logprobs, batch)


def test_its_expected_gradient_is_that_of_minus_the_entropy():
    logits = torch.tensor([0.3, -1.2, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    logprobs = logits.log_softmax(0)
    probabilities = logprobs.exp().detach()
    # Each of the four tokens as a response of its own, as often as the policy samples it.
    expectation = sum(p * loss(logprob.view(1, 1)).loss for p, logprob in zip(probabilities, logprobs, strict=True))
    (found,) = torch.autograd.grad(expectation, logits, retain_graph=True)
    entropy = -(logprobs.exp() * logprobs).sum()
    (expected,) = torch.autograd.grad(-entropy, logits)
    torch.testing.assert_close(found, expected)


def test_loss_and_surprise_by_hand():
    output = loss(torch.tensor([[-1.0, -3.0]]), weight=0.5)
    assert float(output.loss) == pytest.approx(0.5 * (0.5 + 4.5) / 2)
    assert float(output.metrics["surprise/mean"].sum) / float(output.metrics["surprise/mean"].count) == 2.0


def test_it_is_a_term_beside_grpo():
    config = compose(["objective=mixed", "objective.objectives={grpo: 1.0, entropy_bonus: 0.01}"])
    weights = {type(term).__name__: weight for weight, term in config.phases[0].objective.terms}
    assert weights == {"GRPO": 1.0, "EntropyBonus": 0.01}
