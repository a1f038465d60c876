"""The presets: what each is made of, the sign of its gradient, that neither cuts nor dropped rows change anything."""

import functools

import pytest
import torch

from dsrl import build, names
from dsrl.objectives import KL
from dsrl.types import Counts, LossBatch, Metric

# space, advantage, keep, surrogate, aggregate
UNBOUNDED = {"name": "ppo_clip", "dual_clip": None}
PARTS = {
    "nsr_prerl": ("marginal", "group_center", "negative", "ppo_clip", "token_mean"),
    "psr_prerl": ("marginal", "group_center", "positive", "ppo_clip", "token_mean"),
    "prerl": ("marginal", "group_center", "all", "ppo_clip", "token_mean"),
    "nsr": ("conditional", "group_norm", "negative", "ppo_clip", "token_mean"),
    "psr": ("conditional", "group_norm", "positive", "ppo_clip", "token_mean"),
    "grpo": ("conditional", "group_norm", "all", "ppo_clip", "token_mean"),
    "dr_grpo": ("conditional", "group_center", "all", UNBOUNDED, "constant"),
    "dapo": ("conditional", "group_norm", "nonzero", {**UNBOUNDED, "clip_high": 0.28}, "token_mean"),
    "gspo": ("conditional", "group_norm", "all", "gspo", "seq_mean_token_mean"),
    "cispo": ("conditional", "group_norm", "all", "cispo", "token_mean"),
    "rloo": ("conditional", "rloo", "all", "reinforce", "seq_mean_token_sum"),
    "reinforce_pp": ("conditional", "batch_norm", "all", UNBOUNDED, "token_mean"),
    "w_reinforce": ("conditional", "weighted", "all", "reinforce", "token_mean"),
}
# Rows: right and wrong mixed; all wrong; all right; with a reward between, and an empty response.
REWARDS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.6, 0.3]], dtype=torch.float64)
LENGTHS = torch.tensor([3, 5, 1, 2, 2, 4, 5, 1, 3, 0, 4, 2])
N, T = 12, 5


def tensors(spread=0.5):
    generator = torch.Generator().manual_seed(7)
    old = -3 * torch.rand(N, T, generator=generator, dtype=torch.float64)
    logprobs = old + spread * torch.randn(N, T, generator=generator, dtype=torch.float64)
    return logprobs, old, torch.arange(T) < LENGTHS[:, None]


def loss_and_gradient(objective, micro_batches, *, drop=False, spread=0.5):
    """Sum of the shares of all micro-batches; rows of `drop` are left out, as the loop does with what is not scored."""
    values, old, mask = tensors(spread)
    logprobs = values.requires_grad_()
    advantages = objective.advantages(REWARDS)
    kept = objective.kept(REWARDS, advantages)
    scored = objective.scored(kept, advantages) if drop else kept
    rows_kept, rows_scored, advantages = kept.flatten(), scored.flatten(), advantages.flatten()
    counts = Counts.of(mask[rows_kept], max_new_tokens=8)
    total, metrics = torch.zeros((), dtype=torch.float64), {}
    for rows in micro_batches:
        rows = torch.tensor([row for row in rows if not drop or rows_scored[row]], dtype=torch.long)
        batch = LossBatch(
            old_logprobs=old[rows],
            mask=mask[rows] & rows_scored[rows, None],
            advantages=advantages[rows],
            counts=counts,
        )
        out = objective.loss(logprobs[rows], batch)
        total = total + out.loss
        for key, value in out.metrics.items():
            before = metrics.get(key, (0, 0))
            metrics[key] = before[0] + float(value.sum), before[1] + int(value.count)
    total.backward()
    return total.item(), logprobs.grad, metrics


WHOLE = [list(range(N))]


def test_every_preset_is_in_this_table():
    assert {*PARTS, "mixed"} <= set(names("objective"))


@pytest.mark.parametrize("name", PARTS)
def test_parts(name):
    objective = build("objective", name)
    found = (objective.space, objective.advantage, objective.keep, objective.surrogate, objective.aggregate)
    assert found == PARTS[name]
    assert (objective.coefficient, objective.kl) == (1.0, KL())
    assert objective.terms == [(1.0, objective)]
    assert objective.reward_kl is None and not objective.needs_reference


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize(
    "cut",
    [[[n] for n in range(N)], [[11, 3, 7], [0, 9], [1, 2, 4, 5, 6, 8, 10]], [[9], [], [n for n in range(N) if n != 9]]],
    ids=["one row each", "shuffled", "an empty one"],
)
def test_the_cut_into_micro_batches_changes_nothing(name, cut):
    objective = build("objective", name)
    loss, gradient, metrics = loss_and_gradient(objective, WHOLE)
    share, gradient_of_shares, metrics_of_shares = loss_and_gradient(objective, cut)
    assert abs(loss) > 1e-4 and gradient.abs().max() > 1e-4
    assert share == pytest.approx(loss, abs=1e-12, rel=0)
    torch.testing.assert_close(gradient_of_shares, gradient, atol=1e-12, rtol=0)
    assert metrics_of_shares == metrics  # counts, which add up exactly


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("aggregate", ["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "constant"])
def test_leaving_out_rows_without_advantage_changes_nothing(name, aggregate):
    objective = build("objective", name, aggregate=aggregate)
    loss, gradient, metrics = loss_and_gradient(objective, WHOLE)
    dropped_loss, dropped_gradient, dropped_metrics = loss_and_gradient(objective, WHOLE, drop=True)
    assert dropped_loss == pytest.approx(loss, abs=1e-12, rel=0)
    torch.testing.assert_close(dropped_gradient, gradient, atol=1e-12, rtol=0)
    (clipped, tokens), (dropped_clipped, dropped_tokens) = metrics["clip/fraction"], dropped_metrics["clip/fraction"]
    assert dropped_clipped == clipped and dropped_tokens <= tokens  # it is a share of the tokens that are scored


@pytest.mark.parametrize(
    ("name", "scored", "kept"),
    [
        ("nsr_prerl", 4, 4),
        ("grpo", 6, 12),
        ("prerl", 6, 12),
        ("dapo", 6, 6),
        ("w_reinforce", 12, 12),
        ("reinforce_pp", 12, 12),
    ],
)
def test_how_many_are_scored(name, scored, kept):
    rewards = torch.tensor([[1.0, 0.0, 0.0], [0.0] * 3, [1.0] * 3, [1.0, 0.0, 0.0]])
    objective = build("objective", name)
    advantages = objective.advantages(rewards)
    found = objective.kept(rewards, advantages)
    assert int(found.sum()) == kept
    assert int(objective.scored(found, advantages).sum()) == scored


@pytest.mark.parametrize("name", PARTS)
def test_sign_of_the_gradient(name):
    """Descent lowers the log-probability of what is worth less than nothing, raises the rest, and is idle at 0."""
    objective = build("objective", name)
    _, gradient, _ = loss_and_gradient(objective, WHOLE, spread=0.0)
    advantages = objective.advantages(REWARDS)
    kept = objective.kept(REWARDS, advantages).flatten()
    _, _, mask = tensors()
    active = mask & kept[:, None]
    expected = torch.where(active, -advantages.flatten().sign()[:, None], 0.0)
    assert torch.equal(gradient.sign(), expected.expand_as(gradient))
    assert expected.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [("nsr_prerl", 0, 1), ("nsr", 0, 1), ("psr_prerl", -1, 0), ("psr", -1, 0), ("prerl", -1, 1), ("grpo", -1, 1)]
    + [("rloo", -1, 1), ("reinforce_pp", -1, 1), ("w_reinforce", -1, 1), ("dr_grpo", -1, 1), ("cispo", -1, 1)],
)
def test_which_answers_move(name, right, wrong):
    """NSR only lowers wrong answers, PSR only raises right ones: signs of d loss / d logp of one right, one wrong."""
    objective = build("objective", name)
    rewards = torch.tensor([[1.0, 0.0]])
    advantages = objective.advantages(rewards)
    kept = objective.kept(rewards, advantages).flatten()
    logprobs = torch.full((2, 2), -1.0, requires_grad=True)
    mask = torch.ones(2, 2, dtype=torch.bool) & kept[:, None]
    counts = Counts.of(mask[kept])
    batch = LossBatch(old_logprobs=logprobs.detach().clone(), mask=mask, advantages=advantages.flatten(), counts=counts)
    objective.loss(logprobs, batch).loss.backward()
    assert logprobs.grad.sign().tolist() == [[right, right], [wrong, wrong]]


def test_nsr_prerl_by_hand():
    """Rewards 1, 0, 0: advantages -1/3 on wrong answers of 1 and 3 tokens; at ratio 1 each token gets 1/12."""
    objective = build("objective", "nsr_prerl")
    advantages = objective.advantages(torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)).flatten()[1:]
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]]).bool()
    logprobs = torch.full((2, 3), -0.5, dtype=torch.float64, requires_grad=True)
    batch = LossBatch(old_logprobs=logprobs.detach(), mask=mask, advantages=advantages, counts=Counts.of(mask))
    out = objective.loss(logprobs, batch)
    out.loss.backward()
    assert out.loss.item() == pytest.approx(1 / 3, abs=1e-15)
    assert logprobs.grad.flatten().tolist() == pytest.approx([1 / 12, 0, 0, 1 / 12, 1 / 12, 1 / 12], abs=1e-15)


def test_grpo_counts_the_tokens_of_answers_without_advantage():
    """A group of equals stays in the denominator of grpo and not in that of dapo: twice the tokens, half the loss."""
    shares = {}
    rewards = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    for name in ("grpo", "dapo"):
        objective = build("objective", name, advantage="group_center")
        advantages = objective.advantages(rewards)
        kept = objective.kept(rewards, advantages).flatten()
        mask = torch.ones(4, 3, dtype=torch.bool) & kept[:, None]
        logprobs = torch.full((4, 3), -0.5, dtype=torch.float64, requires_grad=True)
        counts = Counts.of(mask[kept])
        batch = LossBatch(old_logprobs=logprobs.detach(), mask=mask, advantages=advantages.flatten(), counts=counts)
        objective.loss(logprobs, batch).loss.backward()
        shares[name] = logprobs.grad[0, 0].item()
    assert shares == {"grpo": pytest.approx(-0.5 / 12), "dapo": pytest.approx(-0.5 / 6)}


def test_dr_grpo_divides_by_samples_times_the_longest_allowed():
    objective = build("objective", "dr_grpo")
    mask = torch.tensor([[1, 1], [1, 0]]).bool()
    logprobs = torch.full((2, 2), -0.5, dtype=torch.float64, requires_grad=True)
    advantages = objective.advantages(torch.tensor([[1.0, 0.0]], dtype=torch.float64)).flatten()
    counts = Counts.of(mask, max_new_tokens=100)
    batch = LossBatch(old_logprobs=logprobs.detach(), mask=mask, advantages=advantages, counts=counts)
    out = objective.loss(logprobs, batch)
    out.loss.backward()
    assert out.loss.item() == pytest.approx((-0.5 - 0.5 + 0.5) / 200, abs=1e-15)
    assert logprobs.grad.flatten().tolist() == pytest.approx([-0.5 / 200, -0.5 / 200, 0.5 / 200, 0.0], abs=1e-15)


def test_w_reinforce_by_hand():
    # One right (0.1) and one wrong (-1) answer of one token each, log p = -2: (-0.1 * -2 + 1 * -2) / 2.
    out = one_token("w_reinforce", [[1.0, 0.0]], logprob=-2.0)
    assert out.loss.item() == pytest.approx(-0.9, abs=1e-15)


def one_token(name, rewards, logprob, **parameters):
    objective = build("objective", name, **parameters)
    rewards = torch.tensor(rewards, dtype=torch.float64)
    advantages = objective.advantages(rewards)
    kept = objective.kept(rewards, advantages).flatten()
    mask = kept[:, None].clone()
    logprobs = torch.full((rewards.numel(), 1), logprob, dtype=torch.float64)
    batch = LossBatch(
        old_logprobs=logprobs, mask=mask, advantages=advantages.flatten(), counts=Counts.of(mask[kept], 4)
    )
    return objective.loss(logprobs, batch)


@pytest.mark.parametrize("name", PARTS)
def test_coefficient_scales_the_loss(name):
    loss, gradient, _ = loss_and_gradient(build("objective", name), WHOLE)
    scaled_loss, scaled_gradient, _ = loss_and_gradient(build("objective", name, coefficient=0.01), WHOLE)
    assert abs(loss) > 1e-4
    assert scaled_loss == pytest.approx(0.01 * loss, rel=1e-12)
    torch.testing.assert_close(scaled_gradient, 0.01 * gradient)


@pytest.mark.parametrize("rewards", [[[0.0, 0.0]], [[1.0, 1.0]], [[0.1, 0.1]]], ids=["all wrong", "all right", "equal"])
@pytest.mark.parametrize("name", [name for name in PARTS if name != "w_reinforce"])
def test_a_batch_of_equals_has_no_loss(name, rewards):
    assert one_token(name, rewards, -1.0).loss.item() == 0.0


@pytest.mark.parametrize(
    "name", [name for name, parts in PARTS.items() if parts[2] in ("negative", "positive", "nonzero")]
)
def test_nothing_kept(name):
    objective = build("objective", name)
    rewards = torch.ones(1, 2)
    advantages = objective.advantages(rewards)
    assert not objective.kept(rewards, advantages).any()
    logprobs = torch.empty(0, 4, requires_grad=True)
    counts = Counts(tokens=0.0, sequences=0.0, samples=0.0, max_new_tokens=4)
    batch = LossBatch(
        old_logprobs=torch.empty(0, 4),
        mask=torch.empty(0, 4, dtype=torch.bool),
        advantages=torch.empty(0),
        counts=counts,
    )
    out = objective.loss(logprobs, batch)
    out.loss.backward()
    assert out.loss.item() == 0.0 and out.metrics["clip/fraction"] == Metric(0.0, 0)


def test_clip_fraction_is_over_scored_tokens():
    """Of 3 tokens one is clipped: ratio 2 on a right answer; the padding's ratio of 2 does not count."""
    objective = build("objective", "grpo")
    mask = torch.tensor([[1, 1], [1, 0]]).bool()
    logprobs = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64).log()
    advantages = torch.tensor([1.0, 1.0], dtype=torch.float64)
    batch = LossBatch(
        old_logprobs=torch.zeros(2, 2, dtype=torch.float64), mask=mask, advantages=advantages, counts=Counts.of(mask)
    )
    assert objective.loss(logprobs, batch).metrics["clip/fraction"] == Metric(1.0, 3)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"surrogate": {"name": "ppo_clip", "clip_high": 0.28}}, -1.28),
        ({"surrogate": {"name": "ppo_clip", "clip_low": 0.1, "clip_high": 0.5, "dual_clip": None}}, -1.5),
        ({"surrogate": {"name": "cispo", "clip_high": 1.0}}, -2.0 * 3.0),
        ({"surrogate": {"name": "gspo", "clip_high": 0.7}}, -1.7),
        ({"surrogate": "reinforce"}, -3.0),
        ({"advantage": {"name": "weighted", "positive": 0.5}}, -0.6),
        ({"advantage": {"name": "signed", "threshold": 2.0}}, 4.0),
        ({"aggregate": "seq_mean_token_sum", "coefficient": 0.5}, -0.6),
        ({"aggregate": "constant"}, -1.2 / 4),
        ({"keep": "negative"}, 0.0),
    ],
)
def test_parts_by_name_with_parameters(parameters, expected):
    """One right answer of one token with log p = 3 and ratio 4, advantage 1 (signed): every part is chosen by name."""
    objective = build("objective", "grpo", **{"advantage": "signed", **parameters})
    rewards = torch.ones(1, 1, dtype=torch.float64)
    advantages = objective.advantages(rewards)
    kept = objective.kept(rewards, advantages)
    logprobs = torch.tensor([[3.0]], dtype=torch.float64)
    batch = LossBatch(
        old_logprobs=logprobs - torch.tensor(4.0, dtype=torch.float64).log(),
        mask=kept,
        advantages=advantages.flatten(),
        counts=Counts.of(kept, max_new_tokens=4),
    )
    assert objective.loss(logprobs, batch).loss.item() == pytest.approx(expected, abs=1e-12)


def test_a_part_may_be_an_object():
    keep_first = functools.partial(
        lambda rewards, advantages, n: torch.arange(rewards.numel()).view_as(rewards) < n, n=1
    )
    objective = build("objective", "grpo", keep=keep_first)
    rewards = torch.tensor([[1.0, 0.0]])
    assert objective.kept(rewards, objective.advantages(rewards)).tolist() == [[True, False]]
