"""Tokens that count, on a small model: exact denominators, however an iteration is cut, and no pass for `all`."""

import random
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dsrl import build
from dsrl.loop.collector import RolloutBatch
from dsrl.loop.loss import compute_loss
from dsrl.loop.metrics import add_metrics, reduce_metrics
from dsrl.loop.micro_batches import optimizer_steps
from dsrl.loop.scorer import Scorer
from dsrl.loop.token_choice import choose_tokens
from dsrl.models.policy import Policy
from dsrl.types import Prompt, Rollouts, SamplingParams

B, G, T, V = 4, 3, 6, 17
REWARDS = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
KNOWN = {"name": "known", "share": 0.9}
ENTROPY = {"name": "entropy", "share": 0.3}


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.4,
        max_position_embeddings=32,
    )
    return Policy(LlamaForCausalLM(config).double())


@pytest.fixture(scope="module")
def batch():
    rng = random.Random(3)
    lengths = torch.tensor([rng.randint(1, T) for _ in range(B * G)])
    prompts = [Prompt(position=b, text="", token_ids=tuple(rng.randrange(3, V) for _ in range(3))) for b in range(B)]
    rollouts = Rollouts(
        prompts=prompts,
        tokens=torch.tensor([[rng.randrange(3, V) for _ in range(T)] for _ in range(B * G)]),
        mask=torch.arange(T) < lengths[:, None],
        logprobs=torch.zeros(B * G, T),
        texts=["x"] * (B * G),
        finish_reasons=["stop"] * (B * G),
    )
    return RolloutBatch(
        rollouts=rollouts, params=SamplingParams(responses_per_prompt=G, max_new_tokens=T), rewards=REWARDS
    )


def scorer_of(policy, **settings):
    return Scorer(policy=policy, encoder=SimpleNamespace(start_token_id=1), **settings)


def trained(policy, batch, objective, *, tokens=10**6, **settings):
    """Loss, gradient and metrics of an iteration, summed over its optimizer steps."""
    scorer = scorer_of(policy, micro_batch_tokens=tokens)
    experience = scorer.score(batch, objective)
    policy.zero_grad()
    total, found, counts = 0.0, [experience.metrics], []
    for step in optimizer_steps(experience, layout=scorer.layout, **settings):
        counts += step.counts
        for micro_batch in step.micro_batches:
            output = compute_loss(micro_batch, scorer.score_tokens(micro_batch).logprobs, step.counts)
            output.loss.backward()
            total += float(output.loss.detach())
            found.append(output.metrics)
    gradient = torch.cat([parameter.grad.flatten() for parameter in policy.parameters()])
    return total, gradient.clone(), reduce_metrics(add_metrics(*found)), counts


def scores_of(policy, batch, context_of):
    """Log-probabilities and entropies [N, T] by one plain forward a row."""
    rollouts, logprobs, entropies = batch.rollouts, torch.zeros(B * G, T).double(), torch.zeros(B * G, T).double()
    for row in range(B * G):
        context, answer = context_of(rollouts.prompt_of(row)), rollouts.tokens[row]
        logits = policy.model(torch.tensor([[*context, *answer.tolist()]])).logits[0, len(context) - 1 : -1]
        distribution = torch.distributions.Categorical(logits=logits)
        logprobs[row], entropies[row] = distribution.log_prob(answer), distribution.entropy()
    return logprobs, entropies


def expected_tokens(policy, batch, kept, spec):
    """The choice by hand."""
    with torch.no_grad():
        given, entropies = scores_of(policy, batch, lambda prompt: prompt.token_ids)
        alone, _ = scores_of(policy, batch, lambda prompt: [1])
    mask = batch.rollouts.mask & kept[:, None]
    if spec["name"] == "known":
        return mask & (alone.exp() >= spec["share"] * given.exp())
    values = sorted(entropies[mask].tolist(), reverse=True)
    return mask & (entropies >= values[-(-len(values) * 3 // 10) - 1] - 1e-12)


@pytest.mark.parametrize("spec", [KNOWN, ENTROPY], ids=lambda spec: spec["name"])
@pytest.mark.parametrize("aggregate", ["token_mean", "seq_mean_token_mean"])
def test_against_a_mean_over_the_tokens_chosen_by_hand(policy, batch, spec, aggregate):
    """REINFORCE in P(y): the sum of A log P(y_t) over chosen tokens, by how many they are, zero advantages included."""
    objective = build("objective", "prerl", surrogate="reinforce", aggregate=aggregate, token_weight=spec)
    loss, gradient, found, (counts,) = trained(policy, batch, objective)
    chosen = expected_tokens(policy, batch, torch.ones(B * G, dtype=torch.bool), spec)
    lengths = chosen.sum(-1)
    assert 0 < int(chosen.sum()) < int(batch.rollouts.mask.sum())
    assert (counts.tokens, counts.sequences) == (float(chosen.sum()), float((lengths > 0).sum()))
    assert counts.samples == B * G
    policy.zero_grad()
    logprobs, _ = scores_of(policy, batch, lambda prompt: [1])
    losses = -(REWARDS - REWARDS.mean(-1, keepdim=True)).flatten()[:, None] * logprobs * chosen
    by_hand = (
        losses.sum() / chosen.sum()
        if aggregate == "token_mean"
        else (losses.sum(-1) / lengths.clamp(min=1)).sum() / (lengths > 0).sum()
    )
    by_hand.backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in policy.parameters()])
    assert loss == pytest.approx(float(by_hand.detach()), abs=1e-9)
    assert torch.allclose(gradient, expected, atol=1e-8)
    assert found["kept/tokens"] == pytest.approx(float(chosen.sum() / batch.rollouts.mask.sum()))


@pytest.mark.parametrize("spec", [KNOWN, ENTROPY], ids=lambda spec: spec["name"])
def test_the_cut_changes_nothing(policy, batch, spec):
    objective = build("objective", "nsr_prerl", token_weight=spec)
    loss, gradient, found, _ = trained(policy, batch, objective)
    for tokens in (9, 20):
        again, same, measured, _ = trained(policy, batch, objective, tokens=tokens)
        assert again == pytest.approx(loss, abs=1e-12) and torch.allclose(gradient, same, atol=1e-12)
        assert measured["kept/tokens"] == found["kept/tokens"]
    *_, counts = trained(policy, batch, objective, minibatches=3)
    *_, (whole,) = trained(policy, batch, objective)
    assert len(counts) == 3 and sum(step.tokens for step in counts) == whole.tokens


def test_where_every_token_is_known_it_is_as_all(policy, batch):
    """The same bits, and one pass less in each space under `all`."""
    every = build("objective", "nsr_prerl", token_weight={"name": "known", "share": 1e-30})
    loss, gradient, found, _ = trained(policy, batch, every)
    again, same, plain, _ = trained(policy, batch, build("objective", "nsr_prerl"))
    assert loss == again and torch.equal(gradient, same)
    assert found.pop("kept/tokens") == 1.0 and found == plain


def test_all_scores_nothing(policy, batch, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a pass")

    monkeypatch.setattr(Scorer, "_frozen_scores", refuse)
    experience = scorer_of(policy).score(batch, build("objective", "mixed"))
    assert all(view.counted is None for view in experience.views)


def test_a_term_chooses_for_itself(policy, batch):
    """In `mixed`, with a second term in the same space whose tokens all count."""
    terms = {"known": {"name": "nsr_prerl", "weight": 1.0, "token_weight": KNOWN}, "psr_prerl": 1.0, "grpo": 1.0}
    objective = build("objective", "mixed", objectives=terms)
    _, _, found, counts = trained(policy, batch, objective)
    centred = (REWARDS - REWARDS.mean(-1, keepdim=True)).flatten()
    negative, positive = centred < -1e-9, centred > 1e-9
    chosen = expected_tokens(policy, batch, negative, KNOWN)
    mask = batch.rollouts.mask
    expected = [float(chosen.sum()), float(mask[positive].sum()), float(mask.sum())]
    assert [own.tokens for own in counts] == expected
    assert found["NSRPreRL0/kept/tokens"] == pytest.approx(float(chosen.sum() / mask[negative].sum()))
    assert "PSRPreRL1/kept/tokens" not in found


def test_ranks_choose_together(monkeypatch):
    """The top 40% by entropy of the 5 tokens of two ranks; this is the second rank, whose tokens come last."""
    part = build("token_weight", {"name": "entropy", "share": 0.4})
    mine = torch.tensor([[[0.0, 3.0], [0.0, 9.0]], [[0.0, 7.0], [0.0, 1.0]]])  # log-probability and entropy
    other = {"conditional": torch.tensor([[0.0, 8.0], [0.0, 2.0]])}
    kept = torch.tensor([[True, False], [True, True]])
    monkeypatch.setattr("dsrl.loop.token_choice.gather", lambda own: [other, own])
    monkeypatch.setattr("dsrl.loop.token_choice.own_rank", lambda: 1)
    assert choose_tokens(part, kept, {"conditional": mine}).tolist() == [[False, False], [True, False]]
    nothing = choose_tokens(part, torch.zeros_like(kept), {"conditional": mine})
    assert nothing.tolist() == [[False, False], [False, False]]
