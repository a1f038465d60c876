"""Loss and gradient of the paper's six objectives against known answers, computed elsewhere in float64."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dsrl import build
from dsrl.types import Counts, LossBatch

FIXTURES = sorted((Path(__file__).parents[1] / "fixtures").glob("prerl_case_*.npz"))
OBJECTIVES = ("nsr_prerl", "psr_prerl", "prerl", "grpo", "nsr", "psr")
AGGREGATES = ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum")


def test_there_are_three_cases():
    assert [path.stem for path in FIXTURES] == ["prerl_case_0", "prerl_case_1", "prerl_case_2"]


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_loss_and_gradient(path, name, aggregate):
    case = np.load(path)
    objective = build("objective", name, aggregate=aggregate)
    rewards = torch.tensor(case["rewards"])
    advantages = objective.advantages(rewards)
    kept = objective.kept(rewards, advantages).flatten()
    mask = torch.tensor(case["mask"]).bool() & kept[:, None]
    logprobs = torch.tensor(case["logprobs"], requires_grad=True)
    batch = LossBatch(
        old_logprobs=torch.tensor(case["old_logprobs"]),
        mask=mask,
        advantages=advantages.flatten(),
        counts=Counts.of(mask),
    )
    loss = objective.loss(logprobs, batch).loss
    loss.backward()
    key = f"{name}/{aggregate.replace('_', '-')}"
    assert loss.item() == pytest.approx(case[f"loss/{key}"].item(), abs=1e-9, rel=0)
    np.testing.assert_allclose(logprobs.grad.numpy(), case[f"grad/{key}"], atol=1e-9, rtol=0)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize(("name", "key"), [("group_center", "adv_center"), ("group_norm", "adv_norm")])
def test_advantages(path, name, key):
    case = np.load(path)
    found = build("advantage", name)(torch.tensor(case["rewards"]))
    np.testing.assert_allclose(found.flatten().numpy(), case[key], atol=1e-12, rtol=0)
