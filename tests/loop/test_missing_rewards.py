"""Responses without a reward: what everything would be had they not been drawn."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dsrl import build, names
from dsrl.config.schema import CurriculumConfig
from dsrl.data.curriculum import Curriculum
from dsrl.errors import DSRLError
from dsrl.evaluation.statistics import SampledQuestion
from dsrl.loop.accuracy import SampledAccuracy
from dsrl.loop.collector import RolloutBatch, without_signal
from dsrl.loop.experience import compute_advantages
from dsrl.loop.loss import compute_loss
from dsrl.loop.metrics import reduce_metrics, rollout_metrics
from dsrl.loop.micro_batches import optimizer_steps
from dsrl.loop.scorer import Scorer
from dsrl.models.policy import Policy
from dsrl.objectives import KL, KLPenalty, PolicyGradient
from dsrl.types import Prompt, Rollouts, SamplingParams

NAN = math.nan
STD = 3**-0.5 + 1e-6  # of 1, 0, 1 about 2/3: squares 1/9 + 4/9 + 1/9, over 2


def rollouts_of(rewards, lengths=None):
    size = len(rewards) * len(rewards[0])
    lengths = torch.tensor(lengths or [2] * size)
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return Rollouts(
        prompts=[Prompt(position=b, row=b, text="", token_ids=(1,)) for b in range(len(rewards))],
        tokens=mask.long() * 3,
        mask=mask,
        logprobs=torch.zeros(mask.shape),
        texts=["x"] * size,
        finish_reasons=["stop"] * size,
    )


@pytest.mark.parametrize(
    ("name", "rewards", "expected"),
    [
        ("group_center", [[1.0, NAN, 0.0, 1.0]], [[1 / 3, 0, -2 / 3, 1 / 3]]),
        ("group_center", [[NAN, 1.0, 0.0]], [[0, 0.5, -0.5]]),
        ("group_center", [[NAN, 1.0], [1.0, 0.0]], [[0, 0], [0.5, -0.5]]),
        ("group_center", [[NAN, NAN], [1.0, 0.0]], [[0, 0], [0.5, -0.5]]),
        ("group_center", [[NAN, 0.1, 0.1, 0.1]], [[0, 0, 0, 0]]),
        ("group_norm", [[1.0, NAN, 0.0, 1.0]], [[1 / 3 / STD, 0, -2 / 3 / STD, 1 / 3 / STD]]),
        ("group_norm", [[NAN, 1.0]], [[0, 0]]),
        ("rloo", [[1.0, NAN, 0.0, 1.0]], [[0.5, 0, -1, 0.5]]),
        ("rloo", [[NAN, 1.0, NAN]], [[0, 0, 0]]),
        ("batch_norm", [[1.0, NAN], [0.0, 1.0]], [[1 / 3 / STD, 0], [-2 / 3 / STD, 1 / 3 / STD]]),
        ("batch_norm", [[NAN, NAN], [NAN, 1.0]], [[0, 0], [0, 0]]),
        ("signed", [[1.0, NAN, 0.0]], [[1, 0, -1]]),
        ("weighted", [[1.0, NAN, 0.0]], [[0.1, 0, -1]]),
        ("negative_centered", [[1.0, NAN, 0.0, 1.0]], [[2 / 9, 0, -4 / 9, 2 / 9]]),
    ],
)
def test_advantages_are_those_of_the_other_responses(name, rewards, expected):
    objective = PolicyGradient(advantage=name)
    term = compute_advantages(0, 1.0, objective, rollouts_of(rewards), torch.tensor(rewards))
    assert term.advantages.view(len(rewards), -1).tolist() == [pytest.approx(row, abs=1e-6) for row in expected]
    assert term.kept.tolist() == [not math.isnan(reward) for row in rewards for reward in row]


@pytest.mark.parametrize("name", names("advantage"))
def test_every_advantage_is_as_if_they_had_not_been_drawn(name):
    advantage, rewards = build("advantage", name), torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    some = rewards.clone()
    some[0, [0, 3]] = NAN
    torch.testing.assert_close(advantage(some)[:, [1, 2, 4, 5]], advantage(rewards[:, [1, 2, 4, 5]]))


@pytest.mark.parametrize("keep", names("keep"))
def test_no_choice_keeps_them(keep):
    rewards = [[1.0, NAN, 0.0, NAN]]
    objective = PolicyGradient(advantage="signed", keep=keep)
    term = compute_advantages(0, 1.0, objective, rollouts_of(rewards), torch.tensor(rewards))
    assert not term.kept[[1, 3]].any() and not term.scored[[1, 3]].any() and term.kept.any()


def test_the_pull_of_a_kl_leaves_them_out_too():
    rewards = [[1.0, NAN]]
    objective = KLPenalty(kl=KL(coefficient=0.1))
    assert compute_advantages(0, 1.0, objective, rollouts_of(rewards), torch.tensor(rewards)).kept.tolist() == [1, 0]


def test_an_objective_that_cannot_leave_them_out_is_told_so():
    class Plain(PolicyGradient):
        def advantages(self, rewards):
            return rewards - rewards.mean(-1, keepdim=True)

    rewards = [[1.0, NAN, 0.0], [1.0, 0.0, 0.0]]
    with pytest.raises(DSRLError, match="Plain .* must return finite advantages, not nan; .*nanmean"):
        compute_advantages(0, 1.0, Plain(), rollouts_of(rewards), torch.tensor(rewards))
    compute_advantages(0, 1.0, Plain(), rollouts_of(rewards[1:]), torch.tensor(rewards[1:]))


def test_ranks_see_the_rewards_of_all(monkeypatch):
    """Two ranks, with positions 0 and 2, and 1: as one process."""
    rewards = torch.tensor([[1.0, NAN], [0.0, 1.0], [NAN, NAN]])
    rollouts, objective = rollouts_of(rewards.tolist()), PolicyGradient(advantage="batch_norm")
    alone = compute_advantages(0, 1.0, objective, rollouts, rewards)
    places = ([0, 2], [1])
    shares = [(own, rewards[own]) for own in places]
    monkeypatch.setattr("dsrl.parallel.collectives.gather", lambda value: shares)
    for own in places:
        mine = dataclasses.replace(rollouts_of(rewards[own].tolist()), prompts=[rollouts.prompts[b] for b in own])
        term = compute_advantages(0, 1.0, objective, mine, rewards[own])
        for name in ("advantages", "kept", "scored"):
            assert torch.equal(getattr(term, name).view(-1, 2), getattr(alone, name).view(-1, 2)[own])


def policy_of(seed):
    torch.manual_seed(seed)
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return Policy(LlamaForCausalLM(LlamaConfig(vocab_size=23, initializer_range=0.3, **size)).double())


def gradient(objective, policy, reference, batch, minibatches=1):
    scorer = Scorer(policy=policy, encoder=SimpleNamespace(start_token_id=1), reference=reference)
    experience = scorer.score(batch, build("objective", objective))
    policy.zero_grad()
    for step in optimizer_steps(experience, minibatches=minibatches, epochs=1, layout=scorer.layout):
        for micro_batch in step.micro_batches:
            compute_loss(micro_batch, scorer.score_tokens(micro_batch).logprobs, step.counts).loss.backward()
    return torch.cat([part.grad.flatten() for part in policy.parameters() if part.grad is not None])


@pytest.mark.parametrize(
    "objective",
    [*names("objective"), {"name": "grpo", "kl": {"coefficient": 0.1}}, {"name": "grpo", "space": "marginal"}],
)
def test_the_gradient_is_that_without_them(objective):
    """One of three responses has none: the step is that of the other two."""
    torch.manual_seed(3)
    policy, reference = policy_of(0), policy_of(1)
    tokens, mask = torch.randint(3, 23, (3, 4)), torch.ones(3, 4, dtype=torch.bool)
    logprobs = torch.full((3, 4), -2.0)
    params = SamplingParams(responses_per_prompt=3, max_new_tokens=4)

    def batch(rows, rewards):
        rollouts = rollouts_of([rewards], [4] * len(rows))
        chosen = dataclasses.replace(rollouts, tokens=tokens[rows], mask=mask[rows], logprobs=logprobs[rows])
        return RolloutBatch(rollouts=chosen, params=params, rewards=torch.tensor([rewards]))

    expected = gradient(objective, policy, reference, batch([0, 2], [1.0, 0.0]))
    found = gradient(objective, policy, reference, batch([0, 1, 2], [1.0, NAN, 0.0]))
    torch.testing.assert_close(found, expected)
    assert expected.abs().max() > 0


@pytest.mark.parametrize(
    ("group", "silent"),
    [
        ([1.0, 0.0, 1.0], False),
        ([1.0, 1.0, 1.0], True),
        ([0.0, 0.0, 0.0], True),
        ([NAN, 1.0, 0.0], False),
        ([1.0, NAN, 0.0], False),
        ([NAN, 1.0, 1.0], True),
        ([1.0, NAN, 1.0], True),
        ([NAN, NAN, 1.0], True),
        ([NAN, NAN, NAN], True),
        ([0.1, NAN, 0.2], False),
        ([-1.0, NAN, -1.0], True),
    ],
)
def test_dynamic_sampling_replaces_groups_whose_other_rewards_are_equal(group, silent):
    assert without_signal(torch.tensor([group])).tolist() == [silent]


def test_metrics_are_those_of_the_others():
    rewards = torch.tensor([[1.0, NAN, 0.0], [1.0, 1.0, NAN], [NAN, 0.0, 0.0], [NAN] * 3])
    found = reduce_metrics(rollout_metrics(rollouts_of(rewards.tolist()), rewards, {}))
    assert found["reward/mean"] == 3 / 6 and found["reward/std"] == 0.5
    assert found["group/all_right"] == found["group/all_wrong"] == 1 / 3
    assert found["response/length_mean"] == 2


def test_lengths_are_compared_with_rewards_where_there_are_any():
    rewards = torch.tensor([[1.0, NAN, 0.0]])
    found = reduce_metrics(rollout_metrics(rollouts_of(rewards.tolist(), [4, 9, 2]), rewards, {}))
    assert found["group/length_correlation"] == pytest.approx(1.0)


def test_the_curriculum_learns_from_the_others():
    curriculum = Curriculum(CurriculumConfig(always_right=0.0, always_wrong=0.0))
    prompts = [Prompt(position=b, row=b, text="", token_ids=(1,)) for b in range(4)]
    curriculum.update(prompts, torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    curriculum.update(prompts, torch.tensor([[NAN, 1.0], [NAN, NAN], [NAN, 1.0], [NAN, 0.0]]))
    assert curriculum.verdicts == {0: True, 1: True, 2: True, 3: False}


def test_validations_count_the_others():
    accuracy = SampledAccuracy(3)
    accuracy.update(torch.tensor([[1.0, NAN, 0.0], [NAN, NAN, 1.0], [NAN] * 3, [0.0, 0.0, 1.0]]))
    found = {key: float(value) for key, value in accuracy.compute().items()}
    expected = {"avg@3": (1 / 2 + 1 + 1 / 3) / 3, "pass@1": (1 / 2 + 1 + 1 / 3) / 3, "pass@2": (1 + 2 / 3) / 2}
    assert found == pytest.approx({**expected, "pass@3": 1.0, "questions": 3})


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1.0, None, 0.0], {"avg": 0.5, "pass@1": 0.5, "pass@2": 1.0, "maj": 0.5}),
        ([None, 1.0, None], {"avg": 1.0, "pass@1": 1.0, "maj": 1.0}),
        ([None, None, None], {}),
        ([0.0, 0.0, 1.0], {"avg": 1 / 3, "pass@1": 1 / 3, "pass@2": 2 / 3, "pass@3": 1.0, "maj": 1 / 3}),
    ],
)
def test_evaluations_count_the_others(rewards, expected):
    known = {"extracted_answer": "a", "length": 4, "finish_reason": "stop", "components": {}}
    samples = [{**known, "reward": reward} for reward in rewards]
    question = SampledQuestion(set="s", data_source="d", prompt="p", ground_truth="a", samples=samples)
    found = question.metrics()
    assert (found.pop("length"), found.pop("truncated")) == (4, 0)
    assert found == pytest.approx(expected)
    assert question.right == sum(reward == 1.0 for reward in rewards)


def test_a_sample_without_a_reward_says_none():
    rewards = torch.tensor([[1.0, NAN]])
    batch = RolloutBatch(
        rollouts=rollouts_of(rewards.tolist()),
        params=SamplingParams(responses_per_prompt=2, max_new_tokens=4),
        rewards=rewards,
        extracted_answers=["", ""],
    )
    assert [batch.record(row)["reward"] for row in (0, 1)] == [1.0, None]
