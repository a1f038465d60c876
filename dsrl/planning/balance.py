"""Deal out the rows of a pass before there are any: what padding and the slowest rank will cost."""

from __future__ import annotations

import math
import random

from dsrl.config.run_config import RunConfig
from dsrl.loop.balance import Work, deal, work_of
from dsrl.loop.micro_batches import RowLayout
from dsrl.models.rows import BY_BLOCKS, BY_MASK, BY_POSITIONS, RowCost
from dsrl.planning.architecture import Shapes
from dsrl.planning.workload import Workload


def layout_of(config: RunConfig, cost: RowCost, workload: Workload) -> RowLayout:
    """Say how a run lays its rows out, if its model can do what its kind of attention can."""
    attention = config.model.attn_implementation
    return RowLayout(
        tokens=workload.micro_batch_tokens,
        shared=config.update.share_prompts and attention in (*BY_MASK, *BY_BLOCKS),
        packed=attention in (*BY_POSITIONS, *BY_BLOCKS),
        cost=cost,
    )


def balance_of(config: RunConfig, shapes: Shapes, workload: Workload, *, context: int, response: int) -> Work:
    """Deal out the rows of an optimizer step in one space, as a run would, with all responses kept.

    Lengths of responses are drawn from a log-normal distribution, of the mean and the spread that the plan is given;
    without a mean, all are as long as may be.

    Args:
        config: the run.
        shapes: of its model.
        workload: its sizes.
        context: tokens of each context.
        response: tokens of the longest response.
    """
    layout, ranks = layout_of(config, shapes.cost, workload), workload.ranks
    prompts = math.ceil(config.prompts_per_iteration / config.update.minibatches)
    contexts = [(prompt,) * context for prompt in range(prompts) for _ in range(workload.responses)]
    lengths = _lengths(len(contexts), config.plan.response_tokens, config.plan.response_spread, response)
    limit = layout.row_limit(sum(lengths) + len(contexts) * context, ranks)
    together = layout.together(contexts, lengths, range(len(contexts)), limit)
    rows = [layout.row(context, [lengths[number] for number in numbers]) for numbers in together]
    dealt = deal(rows, ranks=ranks, tokens=layout.tokens, padded=not layout.packed)
    return work_of(rows, dealt, padded=not layout.packed)


def _lengths(count: int, mean: int | None, spread: float, longest: int) -> list[int]:
    """Draw lengths of that mean, as far as the longest lets them have it."""
    if mean is None:
        return [longest] * count
    draws = random.Random(0)
    drawn = [draws.lognormvariate(math.log(mean) - spread**2 / 2, spread) for _ in range(count)]
    return [min(longest, max(1, round(length))) for length in drawn]
