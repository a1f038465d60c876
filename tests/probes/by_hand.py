"""Scored iterations without a trainer, and log-probabilities and gradients of single responses by plain forwards."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from dsrl import build
from dsrl.loop.probe import Subject
from dsrl.loop.scorer import Scorer

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
