"""How a loss pulls on tokens, worked out by hand."""

import pytest
import torch

from dsrl.loop.experience import SpaceView, Term
from dsrl.loop.logged import TokenPull, add_pulls
from dsrl.loop.micro_batches import MicroBatch
from dsrl.loop.mismatch import Correction
from dsrl.loop.pulls import pulls_of
from dsrl.objectives import KL, PolicyGradient
from dsrl.types import Counts

COUNTS = [Counts(tokens=10, sequences=5, samples=5, max_new_tokens=4)] * 2
LOGPROBS = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, -1.0, 0.0]])


def micro_batch(objective, advantages, *, home=((0, [7, 9]),), scored=(True, True), **fields):
    """Responses 7, of three tokens, and 9, of two, of rank 0."""
    advantages, scored = torch.tensor(advantages), torch.tensor(scored)
    terms = [
        Term(index=i, weight=w, objective=o, advantages=advantages, kept=scored, scored=scored)
        for i, (w, o) in enumerate(objective.terms)
    ]
    tokens = torch.zeros(2, 3, dtype=torch.long)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    given = {"sampled_logprobs": LOGPROBS, "space": "marginal"} | fields
    view = SpaceView(contexts=[(1,), (1,)], tokens=tokens, mask=mask, terms=terms, **given)
    return MicroBatch(view=view, home=[(rank, list(rows)) for rank, rows in home])


def found(batch, rows=(7, 9), length=3):
    pulls = pulls_of(batch, LOGPROBS, COUNTS, rows=rows, length=length)
    return {own.row: (own.pull.tolist(), own.clipped.tolist()) for own in pulls}


def test_with_token_mean_a_token_is_pulled_by_coefficient_times_advantage():
    batch = micro_batch(PolicyGradient(coefficient=0.5), [1.0, -2.0])
    nothing = [False] * 3
    assert found(batch) == {7: ([0.5, 0.5, 0.5], nothing), 9: ([-1.0, -1.0], nothing[:2])}


def test_the_ratio_pulls_as_far_as_the_clip_lets_it():
    old = LOGPROBS - torch.tensor([[0.0, 2.0, 0.5], [2.0, -0.5, 0.0]]).log().clamp(min=-9)
    old[1, 2] = 0.0
    got = found(micro_batch(PolicyGradient(), [1.0, -1.0], old_logprobs=old))
    assert got[7][1] == [False, True, False]  # of ratios 0, 2 and 0.5, with an advantage above 0
    assert got[7][0] == pytest.approx([0.0, 0.0, 0.5], abs=1e-3)
    assert got[9] == (pytest.approx([-2.0, 0.0]), [False, True])  # of ratios 2 and 0.5, with one below 0


def test_importance_weights_scale_a_pull_and_a_masked_one_is_clipped():
    sampled = LOGPROBS - torch.tensor([[0.5, 1.0, 9.0], [1.0, 1.0, 1.0]]).log()
    mask = Correction(level="token", mode="mask", cap=2.0)
    got = found(micro_batch(PolicyGradient(), [1.0, 1.0], sampled_logprobs=sampled, correction=mask))
    assert got[7] == (pytest.approx([0.5, 1.0, 0.0]), [False, False, True])


def test_terms_add_up_and_the_pull_to_a_reference_is_never_clipped():
    objective = PolicyGradient(kl=KL(coefficient=0.5, estimator="k2", space="conditional"))
    reference = LOGPROBS + torch.tensor([[0.0, 0.2, -0.2], [0.0, 0.0, 0.0]])
    got = found(micro_batch(objective, [1.0, 0.0], reference_logprobs=reference))
    assert got[7] == (pytest.approx([1.0, 1.1, 0.9]), [False, False, False])  # k2 = (log p - log q)^2 / 2
    assert got[9] == ([0.0, 0.0], [False, False])  # without an advantage nothing is there to clip


def test_what_the_objective_does_not_score_is_pulled_by_nothing():
    got = found(micro_batch(PolicyGradient(), [1.0, 1.0], scored=(True, False)))
    assert got[9] == ([0.0, 0.0], [False, False])


def test_only_first_tokens_of_logged_responses_of_rank_0_are_looked_at():
    batch = micro_batch(PolicyGradient(), [1.0, -2.0], home=((0, [7]), (1, [9])))
    assert found(batch, length=2) == {7: ([1.0, 1.0], [False, False])}
    assert found(batch, rows=(8,)) == {}


def test_pulls_of_several_steps_add_up():
    def pull(row, space, value, clipped):
        return TokenPull(space=space, row=row, pull=torch.tensor([value]), clipped=torch.tensor([clipped]))

    added = add_pulls([pull(1, "a", 1.0, False), pull(1, "a", 2.0, True), pull(1, "b", 4.0, False)])
    assert {space: (float(own.pull), bool(own.clipped)) for space, own in added[1].items()} == {
        "a": (3.0, True),
        "b": (4.0, False),
    }
