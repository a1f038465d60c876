"""The loss of a micro-batch: the terms of the objective, each over the responses that it keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dsrl.loop.experience import SpaceView, Term
from dsrl.loop.metrics import add_metrics
from dsrl.loop.micro_batches import MicroBatch
from dsrl.loop.mismatch import mismatch_metrics
from dsrl.models.head import TokenScores
from dsrl.objectives.checked import loss_of
from dsrl.types import Counts, LossBatch, LossOutput, Metric, Metrics

CERTAIN = 0.99
"""A token with a greater probability is nearly certain: its gradient is small whatever its advantage."""


def compute_loss(micro_batch: MicroBatch, logprobs: Tensor, counts: list[Counts]) -> LossOutput:
    """Add up the terms' weighted shares of an optimizer step's loss.

    Args:
        micro_batch: responses in one space.
        logprobs: [n, T] of these responses, with gradient; T is the longest of them.
        counts: a term's denominators each, of the whole optimizer step.
    """
    view, device = micro_batch.view, logprobs.device
    loss, metrics = logprobs.sum() * 0.0, Metrics()
    if micro_batch.idle:
        return LossOutput(loss=loss)
    old, weights = old_and_weights(view, logprobs)
    if view.sampled_here and view.old_logprobs is None:  # else scoring has measured it
        mask = view.mask.to(device)
        metrics = mismatch_metrics(old, view.sampled_logprobs.to(device), mask)
        if view.correction is not None and weights is not None:
            metrics |= view.correction.metrics(weights, mask)
    for term, output in term_losses(view, logprobs, counts, old, weights):
        loss = loss + term.weight * output.loss
        metrics = add_metrics(metrics, {f"{term.label}{name}": metric for name, metric in output.metrics.items()})
    return LossOutput(loss=loss, metrics=metrics)


def old_and_weights(view: SpaceView, logprobs: Tensor) -> tuple[Tensor, Tensor | None]:
    """Give the log-probabilities [n, T] of the policy that sampled, and importance weights where there are any.

    logprobs: [n, T] of the running policy, which are those where they were not computed before the update.
    """
    device = logprobs.device
    old = logprobs.detach() if view.old_logprobs is None else view.old_logprobs.to(device)
    if view.correction is None:
        return old, None
    return old, view.correction.weights(old, view.sampled_logprobs.to(device), view.mask.to(device))


def term_losses(
    view: SpaceView, logprobs: Tensor, counts: list[Counts], old: Tensor, weights: Tensor | None
) -> Iterator[tuple[Term, LossOutput]]:
    """Compute the loss of each term of a space over some of its responses, before the term's weight."""
    device = logprobs.device
    reference = None if view.reference_logprobs is None else view.reference_logprobs.to(device)
    for term in view.terms:
        batch = LossBatch(
            old_logprobs=old,
            mask=view.counted_for(term).to(device) & term.scored[:, None].to(device),
            advantages=term.advantages.to(device),
            counts=counts[term.index],
            reference_logprobs=reference,
            weights=weights,
        )
        yield term, loss_of(term.objective, logprobs, batch)


def term_slopes(view: SpaceView, scored: Tensor, counts: list[Counts]) -> Iterator[tuple[Term, Tensor]]:
    """Compute the gradient [n, T] of each term's loss in a space, before the term's weight, with respect to
    log-probabilities [n, T] that require one. A term whose loss depends on none of them is left out.
    """
    for term, output in term_losses(view, scored, counts, *old_and_weights(view, scored)):
        if output.loss.requires_grad:
            (slope,) = torch.autograd.grad(output.loss, scored, allow_unused=True, materialize_grads=True)
            yield term, slope


def score_metrics(micro_batch: MicroBatch, scores: TokenScores) -> Metrics:
    """Measure a pass of the update, over the tokens that it scored, under the name of its space.

    `SPACE/logprob` and `SPACE/entropy` are a token's, in nats; `SPACE/certain` is the share of tokens whose probability
    is over 0.99. The tokens are those of the responses that the model scores for the objective.
    """
    if micro_batch.idle:
        return {}
    view, (logprobs, entropy) = micro_batch.view, scores
    mask = view.mask.to(logprobs.device)
    return {
        f"{view.space}/logprob": Metric.mean(logprobs, mask),
        f"{view.space}/entropy": Metric.mean(entropy, mask),
        f"{view.space}/certain": Metric.mean(logprobs.detach() > math.log(CERTAIN), mask),
    }
