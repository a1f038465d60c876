"""The loss of a micro-batch: the terms of the objective, each over the responses that it keeps."""

from __future__ import annotations

from torch import Tensor

from dsrl.loop.metrics import add_metrics
from dsrl.loop.micro_batches import MicroBatch
from dsrl.loop.mismatch import mismatch_metrics
from dsrl.types import Counts, LossBatch, LossOutput, Metrics


def compute_loss(micro_batch: MicroBatch, logprobs: Tensor, counts: list[Counts]) -> LossOutput:
    """Add up the terms' weighted shares of an optimizer step's loss.

    Args:
        micro_batch: rows of one space.
        logprobs: [n, T] of these rows, with gradient; T is the longest of them.
        counts: a term's denominators each, of the whole optimizer step.
    """
    view, rows, width, device = micro_batch.view, micro_batch.rows, logprobs.shape[1], logprobs.device
    loss, metrics = logprobs.sum() * 0.0, Metrics()
    if micro_batch.idle:
        return LossOutput(loss=loss)
    sampled, mask = (part[rows, :width].to(device) for part in (view.rollouts.logprobs, view.rollouts.mask))
    old = logprobs.detach() if view.old_logprobs is None else view.old_logprobs[rows, :width].to(device)
    weights = None if view.correction is None else view.correction.weights(old, sampled, mask)
    if view.sampled_here and view.old_logprobs is None:  # else scoring has measured it
        metrics = mismatch_metrics(old, sampled, mask)
        if view.correction is not None and weights is not None:
            metrics |= view.correction.metrics(weights, mask)
    reference = None if view.reference_logprobs is None else view.reference_logprobs[rows, :width].to(device)
    for term in view.terms:
        batch = LossBatch(
            old_logprobs=old,
            mask=mask & term.scored[rows, None].to(device),
            advantages=term.advantages[rows].to(device),
            counts=counts[term.index],
            reference_logprobs=reference,
            weights=weights,
        )
        output = term.objective.loss(logprobs, batch)
        loss = loss + term.weight * output.loss
        metrics = add_metrics(metrics, {f"{term.label}{name}": metric for name, metric in output.metrics.items()})
    return LossOutput(loss=loss, metrics=metrics)
