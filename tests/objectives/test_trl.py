"""Ours against TRL's own loss code, on the same log-probabilities: value and gradient.

What is called is `GRPOTrainer._compute_loss` (and RLOO's) on a stand-in `self` with the attributes that it reads; only
its forward is replaced, by the given log-probabilities. Runs where TRL is installed: `pytest -m trl`.
"""

from collections import defaultdict
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from dsrl import build
from dsrl.types import Counts, LossBatch

pytestmark = [pytest.mark.trl, pytest.mark.skipif(find_spec("trl") is None, reason="trl is not installed")]

B, G, T, LONGEST = 3, 4, 6, 9
N = B * G
REWARDS = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 1], [0, 0.5, 1, 0.25]], dtype=torch.float64)
LENGTHS = torch.tensor([6, 1, 3, 4, 2, 6, 5, 1, 4, 3, 6, 2])


def tensors(spread):
    generator = torch.Generator().manual_seed(11)
    old = -0.2 - 3 * torch.rand(N, T, generator=generator, dtype=torch.float64)
    logprobs = old + spread * torch.randn(N, T, generator=generator, dtype=torch.float64)
    reference = old + 0.3 * torch.randn(N, T, generator=generator, dtype=torch.float64)
    return logprobs, old, reference, torch.arange(T) < LENGTHS[:, None]


def trl_loss(advantages, spread, mask=None, trainer="GRPOTrainer", **settings):
    """TRL's loss and its gradient with respect to the log-probabilities."""
    from trl import GRPOTrainer, RLOOTrainer

    values, old, reference, everything = tensors(spread)
    mask = everything if mask is None else mask
    logprobs = values.requires_grad_()
    args = {"delta": None, "use_bias_correction_kl": False, "steps_per_generation": 1}
    stub = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        args=SimpleNamespace(**{key: settings.pop(key, value) for key, value in args.items()}),
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=LONGEST,
        _metrics=defaultdict(lambda: defaultdict(list)),
        **{
            "loss_type": "grpo",
            "importance_sampling_level": "token",
            "beta": 0.0,
            "epsilon_low": 0.2,
            "epsilon_high": 0.2,
            **settings,
        },
    )
    inputs = {
        "prompt_ids": torch.zeros(N, 1, dtype=torch.long),
        "prompt_mask": torch.ones(N, 1, dtype=torch.long),
        "completion_ids": torch.zeros(N, T, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": advantages.flatten(),
        "old_per_token_logps": old,
        "old_logps": (old * mask).sum(-1),
        "ref_per_token_logps": reference,
        "num_items_in_batch": mask.sum(),
    }
    loss = {"GRPOTrainer": GRPOTrainer, "RLOOTrainer": RLOOTrainer}[trainer]._compute_loss(stub, stub.model, inputs)
    loss.backward()
    return loss.item(), logprobs.grad


def our_loss(objective, spread, mask=None):
    """The sum over the objective's terms, each over all rows, and its gradient."""
    values, old, reference, everything = tensors(spread)
    mask = everything if mask is None else mask
    logprobs = values.requires_grad_()
    batch = LossBatch(
        old_logprobs=old,
        mask=mask,
        advantages=objective.advantages(REWARDS).flatten(),
        counts=Counts.of(mask, max_new_tokens=LONGEST),
        reference_logprobs=reference,
    )
    loss = sum(weight * term.loss(logprobs, batch).loss for weight, term in objective.terms)
    loss.backward()
    return loss.item(), logprobs.grad


def assert_same(ours, theirs, absolute=1e-12):
    assert ours[0] == pytest.approx(theirs[0], abs=absolute, rel=0)
    torch.testing.assert_close(ours[1], theirs[1], atol=absolute, rtol=0)
    assert theirs[1].abs().max() > 1e-4


PLAIN = {"name": "ppo_clip", "dual_clip": None}
CASES = {
    "grpo": ("grpo", {"surrogate": PLAIN, "aggregate": "seq_mean_token_mean"}, {"loss_type": "grpo"}),
    "bnpo": ("grpo", {"surrogate": PLAIN}, {"loss_type": "bnpo"}),
    "dr_grpo": ("dr_grpo", {"surrogate": PLAIN}, {"loss_type": "dr_grpo"}),
    "dapo": ("dapo", {"surrogate": {**PLAIN, "clip_high": 0.28}}, {"loss_type": "dapo", "epsilon_high": 0.28}),
    "gspo": (
        "gspo",
        {},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
    ),
    "gspo, wide": (
        "gspo",
        {"surrogate": {"name": "gspo", "clip_low": 0.1, "clip_high": 0.2}},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 0.1, "epsilon_high": 0.2},
    ),
    # TRL's epsilon_high is the bound itself, ours is what is added to 1.
    "cispo": ("cispo", {}, {"loss_type": "cispo", "epsilon_high": 5.0}),
    "cispo, tight": (
        "cispo",
        {"surrogate": {"name": "cispo", "clip_high": 0.1}},
        {"loss_type": "cispo", "epsilon_high": 1.1},
    ),
    # TRL's delta bounds the ratio for either sign; where the advantage is positive, clipping has already done so.
    "two-sided": (
        "grpo",
        {"surrogate": {"name": "ppo_clip", "dual_clip": 1.5}},
        {"loss_type": "bnpo", "delta": 1.5},
    ),
}


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.7])
@pytest.mark.parametrize("case", CASES)
def test_loss(case, spread):
    name, parameters, settings = CASES[case]
    objective = build("objective", name, **parameters)
    assert_same(our_loss(objective, spread), trl_loss(objective.advantages(REWARDS), spread, **settings))


@pytest.mark.parametrize("case", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo"])
def test_loss_with_k3(case):
    name, parameters, settings = CASES[case]
    kl = {"coefficient": 0.04, "estimator": "k3"}
    objective = build("objective", name, kl=kl, **parameters)
    assert len(objective.terms) == 2
    ours, theirs = our_loss(objective, 0.4), trl_loss(objective.advantages(REWARDS), 0.4, beta=0.04, **settings)
    assert_same(ours, theirs)
    without = our_loss(build("objective", name, **parameters), 0.4)
    assert abs(ours[0] - without[0]) > 1e-4


def test_clipping_is_reached():
    """At spread 0.7 clipping holds some tokens, so that not only ratios within the clip are compared."""
    values, old, _, mask = tensors(0.7)
    for dual_clip in (None, 1.5):
        surrogate = build("surrogate", {"name": "ppo_clip", "dual_clip": dual_clip})
        _, held = surrogate(values, old, build("advantage", "group_norm")(REWARDS).flatten(), mask)
        assert 0.2 < (held & mask).sum() / mask.sum() < 0.9


def test_rloo_on_policy():
    """TRL's RLOO clips a ratio of whole sequences; where nothing has moved yet, its gradient is that of ours."""
    objective = build("objective", "rloo")
    ours, theirs = our_loss(objective, 0.0), trl_loss(objective.advantages(REWARDS), 0.0, trainer="RLOOTrainer")
    torch.testing.assert_close(ours[1], theirs[1], atol=1e-12, rtol=0)
    assert theirs[1].abs().max() > 1e-4


def test_an_empty_response_counts_as_a_sequence_for_trl_only():
    """A known difference: our sequence means are over sequences with a token, N - 1 here, TRL's over N."""
    _, _, _, mask = tensors(0.4)
    mask = mask.clone()
    mask[1] = False
    objective = build("objective", "grpo", **CASES["grpo"][1])
    ours, theirs = our_loss(objective, 0.4, mask), trl_loss(objective.advantages(REWARDS), 0.4, mask)
    assert_same((ours[0] * (N - 1) / N, ours[1] * (N - 1) / N), theirs)
