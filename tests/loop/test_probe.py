"""A run with probes is a run without, bit for bit; when probes are asked, and of what."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from dsrl import Metric, Probe, register
from dsrl.loop.probe import Subject

TWO_PHASES = ("objective=nsr_prerl", "+phase2=grpo", "phase2.start=1", "iterations=2", "validation.every=0")


@register("probe", "careless")
@dataclass(kw_only=True)
class Careless(Probe):
    """Draw random numbers and leave gradients behind."""

    seen: ClassVar[list[tuple[str, str]]] = []

    def measure(self, subject: Subject) -> dict[str, Metric]:
        torch.randn(3), np.random.rand(), random.random()
        subject.scorer.policy.model.lm_head.weight.grad = torch.ones_like(subject.scorer.policy.model.lm_head.weight)
        self.seen.append(("before", type(subject.objective).__name__))
        return {"probe/careless/rewards": Metric.mean(subject.experience.batch.rewards)}

    def watch_step(self, subject: Subject):
        weight = subject.scorer.policy.model.lm_head.weight
        before = weight.detach().clone()

        def after_step() -> dict[str, Metric]:
            self.seen.append(("after", type(subject.objective).__name__))
            return {"probe/careless/moved": Metric(float((weight.detach() - before).abs().max()))}

        return after_step


def state_of(module):
    """Metrics without times and probes, weights, moments, random states."""
    metrics = {
        name: value for name, value in module.metrics.items() if not name.startswith(("time/", "through", "probe"))
    }
    moments = module.optimizers().state_dict()["state"]
    tensors = [*module.policy.state_dict().values(), *(own for state in moments.values() for own in state.values())]
    return metrics, tensors, [torch.get_rng_state(), torch.tensor(np.random.get_state()[1]), random.getstate()]


def test_a_run_with_a_probe_is_one_without(fit, tmp_path):
    metrics, tensors, states = state_of(fit(*TWO_PHASES, f"run_dir={tmp_path}/plain"))
    for name, probe in (("all", ("+probe=alignment", "probe.levels=[0,1,2,3]")), ("own", ("+probe=careless",))):
        module = fit(*TWO_PHASES, *probe, f"run_dir={tmp_path}/{name}")
        others, other_tensors, other_states = state_of(module)
        assert metrics == others
        assert len(tensors) == len(other_tensors) > 50
        assert all(torch.equal(one, other) for one, other in zip(tensors, other_tensors, strict=True))
        assert torch.equal(states[0], other_states[0]) and torch.equal(states[1], other_states[1])
        assert states[2] == other_states[2]
        assert any(key.startswith("probe/") for key in module.metrics)
        assert module.metrics["time/probe"] > 0


def test_it_is_asked_when_it_is_due_before_and_after_the_step(fit, tmp_path):
    Careless.seen.clear()
    module = fit(*TWO_PHASES, "iterations=4", "+probe=careless", "probe.every=3", f"run_dir={tmp_path}/run")
    assert Careless.seen == [("before", "NSRPreRL"), ("after", "NSRPreRL"), ("before", "GRPO"), ("after", "GRPO")]
    assert 0 < module.metrics["probe/careless/moved"] < 1e-3
    assert module.metrics["probe/careless/rewards"] == pytest.approx(module.metrics["reward/mean"])
