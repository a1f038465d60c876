"""How an iteration is cut: optimizer steps, each of micro-batches within a budget of tokens, with global counts.

A cut changes nothing but memory and time: denominators are counted over all micro-batches and ranks of a step, and a
response may be scored by any rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from dsrl.loop.balance import Row, Work, deal, work_of
from dsrl.loop.experience import Experience, SpaceView
from dsrl.models.rows import RowCost
from dsrl.parallel.collectives import all_sum, exchange, gather, gather_rows, own_rank, world_size
from dsrl.seeding import derive_seed
from dsrl.types import Counts, Metric, Metrics

WORTH = 0.9
"""A response shares a row where that costs less than this part of a row of its own: a mask has a price, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowLayout:
    """How responses become the rows of a pass, and rows its micro-batches.

    Args:
        tokens: at most so many are in a micro-batch, padding included, unless one row has more.
        shared: whether responses may read their common context once, where that is cheaper.
        packed: whether rows are put behind one another, instead of padded to the longest.
        cost: what a row costs.
    """

    tokens: int = 8192
    shared: bool = False
    packed: bool = False
    cost: RowCost = RowCost()

    def row(self, context: int, responses: Sequence[int]) -> Row:
        """Count the tokens and the cost of a row: a context, and responses whose last tokens are not read."""
        read = [max(length - 1, 0) for length in responses]
        return Row(context + sum(read), self.cost.of(context, read, hidden_too=not self.packed))

    def row_limit(self, tokens: float, ranks: int) -> float:
        """Say how many tokens a row of several responses may have, if all ranks together have so many.

        Where there are several, such rows are small enough to be balanced.
        """
        return float(self.tokens) if ranks == 1 else min(self.tokens, tokens / ranks) / 2

    def together(
        self, contexts: Sequence[Sequence[int]], lengths: Sequence[int], numbers: Sequence[int], limit: float
    ) -> list[list[int]]:
        """Choose which of N responses share a row: those of equal contexts, for as long as that is cheaper.

        Args:
            contexts: of each of the N.
            lengths: tokens of each of the N.
            numbers: those of the N to put into rows.
            limit: tokens that a row may have.
        """
        if not self.shared:
            return [[number] for number in numbers]
        rows: list[list[int]] = []
        for number in numbers:
            context = contexts[number]
            if rows and tuple(contexts[rows[-1][0]]) == tuple(context):
                so_far = [lengths[other] for other in rows[-1]]
                before, after = (self.row(len(context), row) for row in (so_far, [*so_far, lengths[number]]))
                alone = self.row(len(context), [lengths[number]])
                if after.tokens <= limit and after.cost < before.cost + WORTH * alone.cost:
                    rows[-1].append(number)
                    continue
            rows.append([number])
        return rows


@dataclass(kw_only=True, slots=True)
class MicroBatch:
    """Responses of one space that are scored together.

    Args:
        view: these responses alone.
        together: the numbers of the responses in each row; None: each is alone.
        packed: whether the rows are put behind one another.
        home: the ranks that the responses come from, and their numbers there, in the order of the view.
        idle: it stands in on a rank that has fewer: it is scored and adds nothing.
    """

    view: SpaceView
    together: list[list[int]] | None = None
    packed: bool = False
    home: list[tuple[int, list[int]]] = field(default_factory=list)
    idle: bool = False


def in_micro_batches(
    view: SpaceView, rows: Tensor, layout: RowLayout, compute: Callable[[MicroBatch], Tensor], result: Tensor
) -> Tensor:
    """Compute something of each token of some responses, wherever these are dealt out to, and bring it home.

    A collective.

    Args:
        view: N responses of this rank in a space.
        rows: [N] bool, which of them.
        layout: how they become rows and micro-batches.
        compute: from n responses to [n, T', K], where T' is the longest of them.
        result: [N, T, K] on the CPU, what stands where nothing is computed.

    Returns:
        The result, in the dtype of what was computed, unless that was nothing.
    """
    micro_batches, _ = cut(view, rows, layout)
    found = [compute(batch).cpu() for batch in micro_batches]
    for numbers, values in send_home(micro_batches, found):
        width = min(result.shape[1], values.shape[1])  # longer responses of other ranks may have been beside
        result = result.to(values.dtype)
        result[numbers, :width] = values[:, :width]
    return result


@dataclass(kw_only=True, slots=True)
class OptimizerStep:
    """Micro-batches whose gradients add up to one step.

    Args:
        micro_batches: as many on every rank.
        counts: a term's denominators each, over all micro-batches and ranks.
        metrics: `update/padding` and `update/slowest`: tokens computed, and those that the time of the slowest ranks
            would have sufficed for, of each token that had to be read.
    """

    micro_batches: list[MicroBatch]
    counts: list[Counts]
    metrics: Metrics = field(default_factory=dict)

    @property
    def keeps_nothing(self) -> bool:
        """Whether no term keeps a response on any rank."""
        return all(counts.samples == 0 for counts in self.counts)


def optimizer_steps(
    experience: Experience, *, minibatches: int = 1, epochs: int = 1, layout: RowLayout
) -> Iterator[OptimizerStep]:
    """Cut an iteration into minibatches x epochs optimizer steps. A collective.

    Which prompts share a step depends on seed and iteration, not on the number of ranks.

    Args:
        experience: what was collected and scored.
        minibatches: steps in which each response is used once.
        epochs: how often each response is used.
        layout: how the responses of a step become micro-batches.
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
            passes = [cut(view, view.scored & rows, layout) for view in experience.views]
            yield OptimizerStep(
                micro_batches=[micro_batch for micro_batches, _ in passes for micro_batch in micro_batches],
                counts=_counts(experience, rows),
                metrics=_work_metrics([work for _, work in passes]),
            )


def cut(view: SpaceView, chosen: Tensor, layout: RowLayout) -> tuple[list[MicroBatch], Work]:
    """Cut responses into micro-batches, as many on every rank, and deal them out to the ranks. A collective.

    Args:
        view: this rank's responses in one space.
        chosen: [N] bool, those to cut.
        layout: how they become rows and micro-batches.

    Returns:
        This rank's micro-batches, with responses of any rank, and the work of all ranks.
    """
    numbers, ranks = chosen.nonzero()[:, 0].tolist(), world_size()
    sizes, lengths = [len(context) for context in view.contexts], view.lengths.tolist()
    own = sum(sizes[number] + lengths[number] for number in numbers)
    limit = layout.row_limit(all_sum([own])[0], ranks)
    together = layout.together(view.contexts, lengths, numbers, limit)
    by_rank = gather([layout.row(sizes[row[0]], [lengths[number] for number in row]) for row in together])
    rows, first = list(chain(*by_rank)), sum(map(len, by_rank[: own_rank()]))
    dealt = deal(rows, ranks=ranks, tokens=layout.tokens, padded=not layout.packed)

    def parcel(batch: list[int]) -> _Parcel:
        """What this rank has of a micro-batch: which of its responses are together, and all that belongs to them."""
        own = [together[row - first] for row in batch if first <= row < first + len(together)]
        return own, view.select(list(chain(*own))).rows() if own else None

    received = exchange([[parcel(batch) for batch in rounds] for rounds in dealt])
    micro_batches = [_micro_batch(view, parcels, layout.packed) for parcels in zip(*received, strict=True)]
    return micro_batches, work_of(rows, dealt, padded=not layout.packed)


_Parcel = tuple[list[list[int]], tuple[Any, ...] | None]


def _micro_batch(view: SpaceView, parcels: Sequence[_Parcel], packed: bool) -> MicroBatch:
    """Put together what each rank, in order, has of a micro-batch; of nothing, one that is idle."""
    together: list[list[int]] = []
    home: list[tuple[int, list[int]]] = []
    count = 0
    for rank, (rows, _) in enumerate(parcels):
        home.append((rank, list(chain(*rows))))
        for row in rows:
            together.append(list(range(count, count + len(row))))
            count += len(row)
    parts = [part for _, part in parcels if part is not None]
    if not parts:
        one = torch.zeros(1, 1)
        nothing = SpaceView(contexts=[(0,)], tokens=one.long(), mask=one == 0, sampled_logprobs=one, space=view.space)
        return MicroBatch(view=nothing, idle=True)
    return MicroBatch(view=view.with_rows(parts), together=together, packed=packed, home=home)


def send_home(micro_batches: Sequence[MicroBatch], values: Sequence[Tensor]) -> Iterator[tuple[list[int], Tensor]]:
    """Give the values [n, T] of micro-batches back to the ranks that the responses come from. A collective.

    Yields numbers of this rank's responses, and their values.
    """
    parcels: list[list[tuple[list[int], Tensor]]] = [[] for _ in range(world_size())]
    for micro_batch, found in zip(micro_batches, values, strict=True):
        if micro_batch.idle:
            continue
        parts = torch.split(found, [len(numbers) for _, numbers in micro_batch.home])
        for (rank, numbers), part in zip(micro_batch.home, parts, strict=True):
            parcels[rank].append((numbers, part))
    for parcel in exchange(parcels):
        yield from parcel


def _work_metrics(passes: Sequence[Work]) -> Metrics:
    real, computed, slowest = (float(sum(values)) for values in zip(*passes, strict=True))
    if real == 0:
        return {}
    return {"update/padding": Metric(computed, real), "update/slowest": Metric(slowest, real)}


def _counts(experience: Experience, rows: Tensor) -> list[Counts]:
    """The denominators of each term, over the chosen rows [N] bool of all ranks: of tokens, those that count."""
    views = {term.index: view for view in experience.views for term in view.terms}
    local: list[float] = []
    for term in experience.terms:
        kept, lengths = term.kept & rows, views[term.index].counted_for(term).sum(-1)
        local += [float(lengths[kept].sum()), float((lengths[kept] > 0).sum()), float(kept.sum())]
    total, longest = all_sum(local), experience.batch.params.max_new_tokens
    return [
        Counts(tokens=tokens, sequences=sequences, samples=samples, max_new_tokens=longest)
        for tokens, sequences, samples in zip(total[::3], total[1::3], total[2::3], strict=True)
    ]
