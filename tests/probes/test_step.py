"""Level 3: log-probabilities before and after a step, against plain forwards."""

import copy

import pytest
import torch
from by_hand import plain_logprob, subject_of

from dsrl.loop.metrics import reduce_metrics
from dsrl.probes.alignment import Alignment


def test_changes_are_those_of_plain_forwards(sampled):
    policy, batch = copy.deepcopy(sampled[0]), sampled[1]
    probe = Alignment(levels=[3], samples=12)
    after = probe.watch_step(subject_of(policy, batch))

    def scored():
        with torch.no_grad():
            return {
                space: torch.stack([plain_logprob(policy, batch, row, space) for row in range(12)])
                for space in ("conditional", "marginal")
            }

    before = scored()
    plain_logprob(policy, batch, 0, "marginal").backward()
    with torch.no_grad():
        for own in policy.parameters():
            own.sub_(own.grad, alpha=1e-4)
    expected, found = scored(), reduce_metrics(after())
    right = batch.rewards.flatten()[:12] > 0.5
    for space in ("conditional", "marginal"):
        change = expected[space] - before[space]
        for label, rows in (("right", right), ("wrong", ~right)):
            name = f"probe/alignment/step/{space}/{label}"
            assert found[name] == pytest.approx(float(change[rows].mean()), rel=1e-5, abs=1e-9)
            assert found[f"{name}/low"] <= found[name] <= found[f"{name}/high"]
    assert found["probe/alignment/step/marginal/wrong"] < 0
