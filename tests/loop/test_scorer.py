"""A scorer alone: no trainer, a policy of two layers, frozen rollouts; log-probabilities against a plain forward."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dsrl import build
from dsrl.loop.collector import RolloutBatch
from dsrl.loop.metrics import reduce_metrics
from dsrl.loop.mismatch import Correction
from dsrl.loop.scorer import Scorer
from dsrl.models.policy import Policy
from dsrl.types import Prompt, Rollouts, SamplingParams

ENCODER = SimpleNamespace(start_token_id=1)
TEMPERATURE = 0.7


def policy_of(seed):
    torch.manual_seed(seed)
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return Policy(LlamaForCausalLM(LlamaConfig(vocab_size=23, initializer_range=0.3, **size)).double())


@pytest.fixture(scope="module")
def policy():
    return policy_of(0)


@pytest.fixture(scope="module")
def reference():
    return policy_of(1)


@pytest.fixture
def batch():
    """2 prompts x 2 responses of 3, 1, 2 and 3 tokens; in the first group one is right, in the second none."""
    lengths = torch.tensor([3, 1, 2, 3])
    mask = torch.arange(3) < lengths[:, None]
    torch.manual_seed(2)
    return RolloutBatch(
        rollouts=Rollouts(
            prompts=[
                Prompt(position=0, text="", token_ids=(5, 6, 7)),
                Prompt(position=1, text="", token_ids=(8,)),
            ],
            tokens=torch.randint(3, 23, (4, 3)) * mask,
            mask=mask,
            logprobs=torch.full((4, 3), -2.0) * mask,
            texts=[""] * 4,
            finish_reasons=["stop"] * 4,
        ),
        params=SamplingParams(responses_per_prompt=2, max_new_tokens=3, temperature=TEMPERATURE, iteration=4),
        rewards=torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
    )


def plain(policy, context, rollouts, row):
    """One forward of one sequence."""
    response = rollouts.tokens[row][rollouts.mask[row]].tolist()
    logits = policy.model(input_ids=torch.tensor([[*context, *response]])).logits[0] / TEMPERATURE
    table = logits.log_softmax(-1)
    return torch.stack([table[len(context) - 1 + t, token] for t, token in enumerate(response)])


def test_each_term_is_scored_in_its_own_space_over_what_it_keeps(policy, batch):
    experience = Scorer(policy=policy, encoder=ENCODER).score(batch, build("objective", "mixed"))
    conditional, marginal = experience.views
    assert conditional.contexts == [(5, 6, 7), (5, 6, 7), (8,), (8,)] and marginal.contexts == [(1,)] * 4
    assert [term.weight for term in experience.terms] == [1.0, 0.01]
    assert [term.label for term in experience.terms] == ["GRPO0/", "NSRPreRL1/"]
    grpo, nsr = experience.terms
    assert grpo.kept.tolist() == [True] * 4 and grpo.scored.tolist() == [True, True, False, False]
    assert nsr.kept.tolist() == nsr.scored.tolist() == [False, True, False, False]
    assert nsr.advantages.tolist() == [0.5, -0.5, 0.0, 0.0]
    assert (conditional.sampled_here, marginal.sampled_here) == (True, False)
    assert experience.batch is batch
    assert reduce_metrics(experience.metrics) == {
        "kept/fraction": 1.0,
        "scored/fraction": 0.5,
        "tokens/scored": (3 + 3) + (3 + 1) + (1 + 1),
    }
    assert conditional.old_logprobs is None  # the first forward of the update gives them


@pytest.mark.parametrize("micro_batch_tokens", [1, 9, 1000])
def test_old_and_reference_logprobs_are_those_of_plain_forwards(policy, reference, batch, micro_batch_tokens):
    scorer = Scorer(
        policy=policy,
        encoder=ENCODER,
        reference=reference,
        several_steps=True,
        micro_batch_tokens=micro_batch_tokens,
    )
    objective = build("objective", {"name": "grpo", "kl": {"coefficient": 0.1}})
    (view,) = scorer.score(batch, objective).views
    for row, context in enumerate(view.contexts):
        length = int(batch.rollouts.lengths[row])
        expected = plain(reference, context, batch.rollouts, row)
        torch.testing.assert_close(view.reference_logprobs[row, :length], expected)
        old = plain(policy, context, batch.rollouts, row) if row < 2 else torch.zeros(length).double()
        torch.testing.assert_close(view.old_logprobs[row, :length], old)  # of rows that are scored alone
        assert not view.reference_logprobs[row, length:].any()


@pytest.mark.parametrize(("every", "measured"), [(2, True), (3, False), (0, False)])
def test_the_kl_to_the_initial_policy_is_k3_over_all_tokens(policy, reference, batch, every, measured):
    initial = reference if every else None
    found = Scorer(policy=policy, encoder=ENCODER, initial=initial, initial_kl_every=every).measure_initial_kl(batch)
    values = []
    for row, context in enumerate([(5, 6, 7), (5, 6, 7), (8,), (8,)]):
        less = plain(reference, context, batch.rollouts, row) - plain(policy, context, batch.rollouts, row)
        values += (less.exp() - less - 1).tolist()
    assert found == {} if not measured else reduce_metrics(found)["kl/initial"] == pytest.approx(sum(values) / 9)


def test_the_penalty_in_the_reward_is_summed_over_tokens(policy, reference, batch):
    scorer = Scorer(policy=policy, encoder=ENCODER, reference=reference)
    kl = build("objective", {"name": "grpo", "kl": {"coefficient": 0.1, "estimator": "k1"}}).kl
    rewards, found = scorer.apply_kl_penalty(batch, kl)
    penalty = torch.stack(
        [
            (plain(policy, context, batch.rollouts, row) - plain(reference, context, batch.rollouts, row)).sum()
            for row, context in enumerate([(5, 6, 7), (5, 6, 7), (8,), (8,)])
        ]
    )
    torch.testing.assert_close(rewards, batch.rewards - 0.1 * penalty.view(2, 2), atol=1e-5, rtol=0)
    assert reduce_metrics(found)["kl/mean"] == pytest.approx(float(penalty.sum()) / 9, abs=1e-5)


def test_the_mismatch_is_measured_on_what_is_scored(policy, batch):
    correction = Correction(level="token", mode="truncate", cap=2.0)
    scorer = Scorer(policy=policy, encoder=ENCODER, correction=correction, several_steps=True)
    experience = scorer.score(batch, build("objective", "grpo"))
    rows = [plain(policy, (5, 6, 7), batch.rollouts, row) for row in (0, 1)]
    found, difference = reduce_metrics(experience.metrics), torch.cat(rows) + 2.0
    assert found["mismatch/mean"] == pytest.approx(float(difference.abs().mean()), abs=1e-6)
    assert found["mismatch/max"] == pytest.approx(float(difference.abs().max()), abs=1e-6)
    assert found["mismatch/weight"] == pytest.approx(float(difference.exp().clamp(max=2).mean()), abs=1e-6)
    assert found["mismatch/capped"] == pytest.approx(float((difference.exp() >= 2).double().mean()))


@pytest.mark.parametrize(("every", "measured"), [(0, False), (2, True), (3, False)])
def test_in_another_space_the_mismatch_is_measured_now_and_then(policy, batch, every, measured):
    """The batch is of iteration 4."""
    scorer = Scorer(policy=policy, encoder=ENCODER, mismatch_every=every)
    found = reduce_metrics(scorer.score(batch, build("objective", "nsr_prerl")).metrics)
    assert ("mismatch/mean" in found) == measured
    if measured:
        parts = [
            plain(policy, context, batch.rollouts, row) + 2.0
            for row, context in enumerate([(5, 6, 7), (5, 6, 7), (8,), (8,)])
        ]
        assert found["mismatch/mean"] == pytest.approx(float(torch.cat(parts).abs().mean()), abs=1e-6)


def test_restricted_sampling_is_not_compared(policy, batch):
    batch.params = SamplingParams(responses_per_prompt=2, max_new_tokens=3, top_p=0.9)
    correction = Correction(level="token", mode="truncate", cap=2.0)
    scorer = Scorer(policy=policy, encoder=ENCODER, correction=correction, several_steps=True, mismatch_every=1)
    experience = scorer.score(batch, build("objective", "grpo"))
    assert "mismatch/mean" not in reduce_metrics(experience.metrics)
    assert [(view.sampled_here, view.correction) for view in experience.views] == [(False, None)]


def test_how_far_a_reference_is_from_the_policy(policy, reference, batch):
    prompts = batch.rollouts.prompts
    assert Scorer(policy=policy, encoder=ENCODER, reference=policy).max_logprob_difference(prompts) == 0
    assert Scorer(policy=policy, encoder=ENCODER, reference=reference).max_logprob_difference(prompts) > 0.1


def test_a_policy_that_gives_no_number_differs_from_everything(policy, batch):
    broken = policy_of(0)
    broken.model.lm_head.weight.data.fill_(float("nan"))
    scorer = Scorer(policy=policy, encoder=ENCODER, reference=broken)
    assert scorer.max_logprob_difference(batch.rollouts.prompts) == float("inf")


def test_where_one_rank_drew_after_other_contexts_no_rank_corrects(policy, batch, monkeypatch):
    """Rows move between ranks, and would take the weights of the rank that scores them."""
    correction = Correction(level="token", mode="truncate", cap=2.0)
    scorer = Scorer(policy=policy, encoder=ENCODER, correction=correction)
    assert scorer.view("conditional", batch).sampled_here
    monkeypatch.setattr("dsrl.loop.scorer.all_max", lambda value: 1.0)
    view = scorer.view("conditional", batch)
    assert not view.sampled_here and view.correction is None
