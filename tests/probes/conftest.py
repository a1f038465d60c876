"""Responses of the embedded model, in float64, and the gradient of each in both spaces by plain autograd."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from dsrl import build
from dsrl.config.compose import compose
from dsrl.data.encoding import PromptEncoder
from dsrl.data.iteration_batches import IterationBatches
from dsrl.loop.collector import Collector
from dsrl.loop.probe import Subject
from dsrl.loop.scorer import Scorer
from dsrl.models.loading import load_model
from dsrl.models.policy import Policy
from dsrl.types import SamplingParams

PROMPTS, RESPONSES = 6, 3


def subject_of(policy, batch, *, objective="nsr_prerl", start=1, **settings):
    """A scored iteration without a trainer."""
    scorer = Scorer(policy=policy, encoder=SimpleNamespace(start_token_id=start), **settings)
    built = build("objective", objective)
    return Subject(experience=scorer.score(batch, built), objective=built, scorer=scorer)


def plain_logits(policy, batch, row, space, start=1):
    """One forward of one sequence: the logits [T, V] that predict a response, over the temperature."""
    rollouts = batch.rollouts
    context = list(rollouts.prompt_of(row).token_ids) if space == "conditional" else [start]
    response = rollouts.tokens[row][rollouts.mask[row]]
    ids = torch.cat([torch.tensor(context), response])[None]
    return policy.model(input_ids=ids).logits[0, len(context) - 1 : -1] / batch.params.temperature, response


def plain_logprob(policy, batch, row, space):
    """log P of a response, with gradient."""
    logits, response = plain_logits(policy, batch, row, space)
    return logits.log_softmax(-1).gather(-1, response[:, None]).sum()


def plain_gradients(policy, batch, space):
    """Of every response: the gradient of its log-probability, by parameter, [N, numel] each."""
    trained = {name: own for name, own in policy.model.named_parameters() if own.requires_grad}
    rows = [
        torch.autograd.grad(plain_logprob(policy, batch, row, space), list(trained.values()))
        for row in range(len(batch.rollouts.texts))
    ]
    return {name: torch.stack([row[place].flatten() for row in rows]) for place, name in enumerate(trained)}


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
