"""How an iteration is cut: optimizer steps, each of micro-batches within a budget of tokens, with global counts.

A cut changes nothing but memory and time: denominators are counted over all micro-batches and ranks of a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dsrl.loop.experience import Experience, SpaceView
from dsrl.parallel.collectives import all_max, all_sum, gather_rows
from dsrl.seeding import derive_seed
from dsrl.types import Counts


@dataclass(kw_only=True, slots=True)
class MicroBatch:
    """Rows [n] of one space. An idle one stands in on ranks that have fewer: it is scored and adds nothing."""

    view: SpaceView
    rows: Tensor
    idle: bool = False


@dataclass(kw_only=True, slots=True)
class OptimizerStep:
    """Micro-batches whose gradients add up to one step.

    Args:
        micro_batches: as many on every rank.
        counts: a term's denominators each, over all micro-batches and ranks.
    """

    micro_batches: list[MicroBatch]
    counts: list[Counts]

    @property
    def keeps_nothing(self) -> bool:
        """Whether no term keeps a response on any rank."""
        return all(counts.samples == 0 for counts in self.counts)


def optimizer_steps(
    experience: Experience, *, minibatches: int = 1, epochs: int = 1, micro_batch_tokens: int = 8192
) -> Iterator[OptimizerStep]:
    """Cut an iteration into minibatches x epochs optimizer steps. A collective.

    Which prompts share a step depends on seed and iteration, not on the number of ranks.

    Args:
        experience: what was collected and scored.
        minibatches: steps in which each response is used once.
        epochs: how often each response is used.
        micro_batch_tokens: at most so many padded tokens are in a micro-batch, unless one row has more.
    """
    rollouts, params = experience.batch.rollouts, experience.batch.params
    own_positions = [prompt.position for prompt in rollouts.prompts]
    positions, own = gather_rows(torch.tensor(own_positions), own_positions)
    seed = derive_seed(params.seed, params.iteration)
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(derive_seed("minibatches", seed, epoch))
        order = (
            torch.arange(len(positions)) if minibatches == 1 else torch.randperm(len(positions), generator=generator)
        )
        for part in order.tensor_split(minibatches):
            rows = torch.isin(own, part).repeat_interleave(rollouts.responses_per_prompt)
            yield OptimizerStep(
                micro_batches=[
                    micro_batch
                    for view in experience.views
                    for micro_batch in cut(view, view.scored & rows, micro_batch_tokens)
                ],
                counts=_counts(experience, rows),
            )


def cut(view: SpaceView, rows: Tensor, micro_batch_tokens: int) -> list[MicroBatch]:
    """Cut rows into micro-batches, longest first. A collective.

    Every rank gets as many as the one that has most, so that all take part in the collectives of a forward.

    Args:
        view: the responses in one space.
        rows: [N] bool, those to cut.
        micro_batch_tokens: at most so many padded tokens are in a micro-batch, unless one row has more.
    """
    lengths: list[int] = view.rollouts.lengths.tolist()
    size = [len(context) for context in view.contexts]
    longest_first = sorted(range(len(size)), key=lambda row: (-lengths[row], -size[row], row))
    needed = set(rows.nonzero()[:, 0].tolist())
    batches: list[list[int]] = []
    context = response = 0
    for row in filter(needed.__contains__, longest_first):
        context, response = max(context, size[row]), max(response, lengths[row])
        if batches and (len(batches[-1]) + 1) * (context + response) <= micro_batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
            context, response = size[row], lengths[row]
    found = [MicroBatch(view=view, rows=torch.tensor(batch)) for batch in batches]
    idle = MicroBatch(view=view, rows=torch.tensor(longest_first[-1:]), idle=True)
    return found + [idle] * (int(all_max(len(found))) - len(found))


def _counts(experience: Experience, rows: Tensor) -> list[Counts]:
    """The denominators of each term, over the chosen rows [N] bool of all ranks."""
    lengths = experience.batch.rollouts.lengths
    local: list[float] = []
    for term in experience.terms:
        kept = term.kept & rows
        local += [float(lengths[kept].sum()), float((lengths[kept] > 0).sum()), float(kept.sum())]
    total, longest = all_sum(local), experience.batch.params.max_new_tokens
    return [
        Counts(tokens=tokens, sequences=sequences, samples=samples, max_new_tokens=longest)
        for tokens, sequences, samples in zip(total[::3], total[1::3], total[2::3], strict=True)
    ]
