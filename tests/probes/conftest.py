"""Responses of the embedded model, in float64, and the gradient of each in both spaces by plain autograd."""

from __future__ import annotations

import pytest
from by_hand import PROMPTS, RESPONSES, plain_gradients

from dsrl.config.compose import compose
from dsrl.data.encoding import PromptEncoder
from dsrl.data.iteration_batches import IterationBatches
from dsrl.loop.collector import Collector
from dsrl.models.loading import load_model
from dsrl.models.policy import Policy
from dsrl.types import SamplingParams


@pytest.fixture(scope="session")
def sampled():
    """The embedded model in float64, and 6 x 3 responses of it, some right in each of several groups."""
    config = compose([f"prompts_per_iteration={PROMPTS}", "logger=none"])
    policy = Policy(load_model(config.model)).eval()
    encoder = PromptEncoder.of(config.model, config.data).leaving_room(policy.positions, 96, None)
    config.sampler.setup(policy, encoder)
    prompts = IterationBatches(config.data.train_rows(), encoder, batch=PROMPTS, seed=0)[0]
    params = SamplingParams.of(config.phases[0].sampling, encoder, RESPONSES, seed=0)
    batch = Collector(sampler=config.sampler, verifier=config.verifier).collect(prompts, params)
    assert 0.2 < float(batch.rewards.mean()) < 0.8
    return policy.double(), batch


@pytest.fixture(scope="session")
def brute(sampled):
    """The gradients of every response in both spaces."""
    return {space: plain_gradients(*sampled, space) for space in ("conditional", "marginal")}
