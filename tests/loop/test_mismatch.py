"""What is measured of a sampler that is a little wrong, and what corrects it."""

import dataclasses
import math

import lightning as L
import pytest
import torch

from dsrl import build, register
from dsrl.config.compose import compose
from dsrl.errors import ConfigError
from dsrl.loop.experience import SpaceView, compute_advantages
from dsrl.loop.loss import compute_loss
from dsrl.loop.metrics import add_metrics, reduce_metrics
from dsrl.loop.micro_batches import MicroBatch
from dsrl.loop.mismatch import Correction, correction_of, mismatch_metrics
from dsrl.registry import registered_parts
from dsrl.samplers import HFSampler
from dsrl.types import Counts, LossBatch, Prompt, Rollouts

torch.set_num_threads(1)

LN2 = math.log(2)
SAMPLER = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, -1.0, 0.0]])
TRAINER = torch.tensor([[-1.0 + LN2, -1.0 - LN2, -1.0 + 2 * LN2], [-1.0, -1.0 + LN2, 9.0]])  # ratios 2, 1/2, 4; 1, 2
MASK = torch.tensor([[True, True, True], [True, True, False]])


@pytest.mark.parametrize(
    ("level", "mode", "cap", "expected"),
    [
        ("token", "truncate", 3.0, [[2, 0.5, 3], [1, 2, 0]]),
        ("token", "mask", 3.0, [[2, 0.5, 0], [1, 2, 0]]),
        ("token", "truncate", 1.0, [[1, 0.5, 1], [1, 1, 0]]),
        ("sequence", "truncate", 3.0, [[3, 3, 3], [2, 2, 0]]),
        ("sequence", "mask", 3.0, [[0, 0, 0], [2, 2, 0]]),
        ("sequence", "truncate", 100.0, [[4, 4, 4], [2, 2, 0]]),
    ],
)
def test_weights(level, mode, cap, expected):
    trainer = TRAINER.clone().requires_grad_()
    weights = Correction(level=level, mode=mode, cap=cap).weights(trainer, SAMPLER, MASK)
    assert weights.tolist() == [pytest.approx(row) for row in expected]
    assert not weights.requires_grad


@pytest.mark.parametrize(("mode", "mean", "capped"), [("truncate", 8.5 / 5, 1 / 5), ("mask", 5.5 / 5, 1 / 5)])
def test_the_mean_weight_and_the_share_over_the_cap(mode, mean, capped):
    correction = Correction(level="token", mode=mode, cap=3.0)
    parts = [
        correction.metrics(correction.weights(TRAINER[row], SAMPLER[row], MASK[row]), MASK[row])
        for row in (slice(0, 1), slice(1, 2))
    ]
    assert reduce_metrics(add_metrics(*parts)) == pytest.approx({"mismatch/weight": mean, "mismatch/capped": capped})


def test_an_overflowing_ratio_is_capped():
    far = torch.full((1, 3), 500.0)
    correction = Correction(level="sequence", mode="truncate", cap=2.0)
    assert correction.weights(far, SAMPLER[:1], MASK[:1]).tolist() == [[2, 2, 2]]


def test_mean_and_largest_difference_over_what_was_observed():
    assert mismatch_metrics(TRAINER, SAMPLER, torch.zeros_like(MASK)) == {}
    parts = [mismatch_metrics(TRAINER[row], SAMPLER[row], MASK[row]) for row in (slice(0, 1), slice(1, 2))]
    found = reduce_metrics(add_metrics(*parts))
    assert found == pytest.approx({"mismatch/mean": (1 + 1 + 2 + 0 + 1) * LN2 / 5, "mismatch/max": 2 * LN2})


def test_weighted_samples_of_another_distribution_give_the_policys_gradient():
    """One-token responses, every one of three once: the sampler's probabilities q times p/q are the policy's p."""
    logits = torch.tensor([0.5, -1.0, 0.2], requires_grad=True)
    worth, q = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.2, 0.5, 0.3])
    logprobs = logits.log_softmax(-1)
    (truth,) = torch.autograd.grad(-(logprobs.exp() * worth).sum(), logits, retain_graph=True)
    mask = torch.ones(3, 1, dtype=torch.bool)
    weights = Correction(level="token", mode="truncate", cap=100.0).weights(logprobs[:, None], q.log()[:, None], mask)
    batch = LossBatch(
        old_logprobs=logprobs.detach()[:, None],
        mask=mask,
        advantages=worth * q,  # as often as the sampler draws it
        counts=dataclasses.replace(Counts.of(mask), tokens=1.0),
        weights=weights,
    )
    for surrogate in ("reinforce", "ppo_clip"):
        objective = build("objective", "grpo", surrogate=surrogate)
        (found,) = torch.autograd.grad(objective.loss(logprobs[:, None], batch).loss, logits, retain_graph=True)
        torch.testing.assert_close(found, truth)


def test_only_the_space_that_was_sampled_in_is_corrected():
    rollouts = Rollouts(
        prompts=[Prompt(position=0, text="", token_ids=(5,))],
        tokens=torch.zeros(2, 3, dtype=torch.long),
        mask=MASK,
        logprobs=SAMPLER,
        texts=["", ""],
        finish_reasons=["stop", "stop"],
    )
    rewards = torch.tensor([[0.0, 1.0]])
    term = compute_advantages(
        0, 1.0, build("objective", "grpo", advantage="signed", surrogate="reinforce"), rollouts, rewards
    )
    losses = []
    for correction in (None, Correction(level="token", mode="truncate", cap=3.0)):
        view = SpaceView.of(rollouts, [(5,), (5,)], terms=[term], sampled_here=True, correction=correction)
        found = compute_loss(MicroBatch(view=view), TRAINER, [Counts.of(MASK)])
        losses.append(float(found.loss))
        assert found.metrics["mismatch/mean"].count == 5
    lines = [TRAINER[0], -TRAINER[1, :2]]  # -A log p with A = -1 and 1
    plain = sum(float(line.sum()) for line in lines) / 5
    weighted = float((lines[0] * torch.tensor([2, 0.5, 3])).sum() + (lines[1] * torch.tensor([1, 2])).sum()) / 5
    assert losses == pytest.approx([plain, weighted])


class Settings:
    def __init__(self, compute_dtype):
        self.compute_dtype = compute_dtype


@pytest.mark.parametrize(
    ("compute_dtype", "overrides", "corrected"),
    [
        (None, [], False),
        ("float32", [], False),
        ("bfloat16", [], True),
        ("float32", ["trainer.precision=bf16-mixed"], True),
        ("float32", ["model.dtype=bfloat16"], True),
        ("bfloat16", ["mismatch.correction=off"], False),
        (None, ["mismatch.correction=on"], True),
        (None, ["trainer=fsdp", "trainer.precision=bf16-mixed"], False),  # a copy that computes as the policy does
        ("float32", ["trainer=fsdp", "trainer.precision=bf16-mixed"], True),
    ],
)
def test_by_default_it_corrects_where_numerics_differ(tmp_path, compute_dtype, overrides, corrected):
    config = compose([f"run_dir={tmp_path / 'run'}", *overrides])
    exact = dataclasses.replace(config, sampler=Settings(compute_dtype)).exact
    expected = Correction(level="token", mode="truncate", cap=2.0) if corrected else None
    assert correction_of(config.mismatch, exact=exact) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mismatch.correction=on", "sampling.top_p=0.9"], r"with top_p or top_k below full \(phase 1\)"),
        (["mismatch.correction=on", "+phase2=grpo", "phase2.sampling.top_k=5"], r"below full \(phase 2\)"),
        (["mismatch.correction=yes"], "mismatch.correction=.*: allowed are auto, on, off"),
        (["mismatch.level=word"], "mismatch.level=word: allowed are token, sequence"),
        (["mismatch.mode=clip"], "mismatch.mode=clip: allowed are truncate, mask"),
        (["mismatch.cap=0"], "mismatch.cap=0.0: must be above 0"),
        (["mismatch.every=-1"], "mismatch.every=-1: must be at least 0"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        compose([f"run_dir={tmp_path / 'run'}", *overrides])


@pytest.fixture
def off_by_a_tenth():
    @register("sampler", "off_by_a_tenth")
    @dataclasses.dataclass(kw_only=True)
    class OffByATenth(HFSampler):
        compute_dtype = "bfloat16"

        def sample(self, prompts, params):
            found = super().sample(prompts, params)
            found.logprobs = torch.where(found.mask, found.logprobs - 0.1, 0.0)
            return found

    yield "sampler=off_by_a_tenth"
    del registered_parts["sampler"]["off_by_a_tenth"]


def test_in_a_run(fit, off_by_a_tenth):
    seen = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, module, *rest):
            seen.append((module.phase.number, module.metrics.get("mismatch/mean")))

    module = fit(
        *("objective=nsr_prerl", "+phase2=grpo", "phase2.start=3", "iterations=6", "mismatch.every=2"),
        *("prompts_per_iteration=12", "validation.every=0", off_by_a_tenth),
        callbacks=(Watch(),),
    )
    assert [phase for phase, _ in seen] == [1, 1, 1, 2, 2, 2]
    assert module.metrics["mismatch/weight"] == pytest.approx(math.exp(0.1), abs=1e-4)
    assert module.metrics["mismatch/capped"] == 0
    measured = [value for _, value in seen]
    assert measured == [pytest.approx(0.1, abs=1e-4), None, *[pytest.approx(0.1, abs=1e-4)] * 4]


def test_restricted_sampling_is_not_compared(fit, off_by_a_tenth):
    module = fit("sampling.top_p=0.9", "iterations=1", "validation.every=0", off_by_a_tenth)
    assert "mismatch/mean" not in module.metrics
    assert all(view.correction is None for view in module.experience.views)


@pytest.mark.parametrize("minibatches", [1, 2])
def test_the_policy_itself_agrees_to_the_last_bits(fit, minibatches):
    module = fit(f"update.minibatches={minibatches}", "iterations=1", "validation.every=0", "prompts_per_iteration=12")
    assert module.metrics["mismatch/mean"] < 1e-5 and module.metrics["mismatch/max"] < 1e-3
