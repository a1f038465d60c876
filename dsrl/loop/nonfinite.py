"""Leave out a step whose gradient is not finite, and say where it comes from: which term, which response."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from dsrl.config.schema.training import UpdateConfig
from dsrl.errors import DSRLError
from dsrl.loop.loss import term_slopes
from dsrl.loop.micro_batches import MicroBatch, OptimizerStep
from dsrl.loop.scorer import Scorer
from dsrl.parallel.collectives import gather
from dsrl.types import Counts, Metric, Metrics

logger = logging.getLogger(__name__)
SHOWN = 3
"""Responses that a message names."""
REMEDY = (
    "lower optimizer.lr or update.clip_norm, or take a precision with a wider range (trainer.precision=bf16-mixed, "
    "32-true), and go on from a checkpoint before; update.on_nonfinite=skip leaves such steps out"
)


class Suspect(NamedTuple):
    """A response that may be the cause.

    Args:
        certain: whether it is one, or has only the steepest loss.
        size: how steep the loss is there.
        text: what is wrong, and with which response.
    """

    certain: bool
    size: float
    text: str


def leave_out(
    step: OptimizerStep, norm: float, scorer: Scorer, where: str, settings: UpdateConfig, in_a_row: int
) -> Metrics:
    """Say that an optimizer step is left out, since its gradient is not finite, and why. A collective.

    Args:
        step: it.
        norm: of its gradient.
        scorer: scores its responses again.
        where: the phase and the iteration, for people.
        settings: with `on_nonfinite` and `max_skipped`.
        in_a_row: how many steps have now been left out, one after the other.

    Returns:
        The metric that counts it.

    Raises:
        DSRLError: `update.on_nonfinite` says stop, or too many were left out in a row.
    """
    said = f"{where}: the gradient is not finite (norm {norm}), and no step was taken; {cause_of(step, scorer)}"
    if settings.on_nonfinite == "stop":
        raise DSRLError(said)
    if in_a_row > settings.max_skipped:
        raise DSRLError(f"{said}\nupdate.max_skipped={settings.max_skipped} steps in a row were left out before")
    logger.warning(said)
    return {"update/skipped": Metric(1.0, 0.0)}


def cause_of(step: OptimizerStep, scorer: Scorer) -> str:
    """Say which responses make the gradient of an optimizer step what it is. A collective: scores them again.

    Returns:
        A sentence for each, the worst first, and what to do.
    """
    own: list[Suspect] = []
    for micro_batch in step.micro_batches:
        with torch.no_grad():
            logprobs = scorer.score_tokens(micro_batch).logprobs
        if not micro_batch.idle:
            own += suspects(micro_batch, logprobs, step.counts, scorer.encoder.tokenizer)
    found = [suspect for share in gather(own) for suspect in share]
    certain = [suspect for suspect in found if suspect.certain]
    worst = sorted(certain or found, key=lambda suspect: -suspect.size)[:SHOWN]
    head = "" if certain else "log-probabilities and the loss are finite, so that it came about in the backward pass; "
    return f"{head}{'; '.join(suspect.text for suspect in worst)}. What to do: {REMEDY}"


def suspects(
    micro_batch: MicroBatch,
    logprobs: torch.Tensor,
    counts: list[Counts],
    tokenizer: PreTrainedTokenizerBase,
) -> Iterator[Suspect]:
    """Find the responses of a micro-batch whose log-probabilities, or whose loss's slopes, are not finite; and of each
    term the one with the steepest loss.

    Args:
        micro_batch: n responses in one space.
        logprobs: [n, T] of these responses.
        counts: a term's denominators each, of the whole optimizer step.
        tokenizer: decodes responses for people.
    """
    view, homes = micro_batch.view, [(rank, row) for rank, rows in micro_batch.home for row in rows]
    mask = view.mask.to(logprobs.device)
    scored = logprobs.detach().clone().requires_grad_()

    def response(place: int) -> str:
        rank, row = homes[place]
        text = tokenizer.decode(view.tokens[place][view.mask[place]][:30].tolist())
        return f"response {row} of rank {rank}, {text!r}"

    for place in (~scored.isfinite() & mask).any(-1).nonzero()[:, 0].tolist():
        value = scored[place][mask[place] & ~scored[place].isfinite()][0].item()
        yield Suspect(True, math.inf, f"in space {view.space}, a log-probability is {value} in {response(place)}")
    for term, slopes in term_slopes(view, scored, counts):
        name = f"objective {type(term.objective).__name__}"
        size = slopes.abs().amax(-1)
        for place in (~slopes.isfinite()).any(-1).nonzero()[:, 0].tolist():
            yield Suspect(True, math.inf, f"the loss of {name} has no finite slope in {response(place)}")
        place = int(size.argmax())
        steepest = float(size[place])
        yield Suspect(False, steepest, f"the loss of {name} is steepest ({steepest:.3g}) in {response(place)}")
