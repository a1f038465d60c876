"""The largest budget of tokens of a pass that fits a device."""

from __future__ import annotations

import math
from collections.abc import Callable

from dsrl.models.head import CHUNK_BYTES
from dsrl.planning.device import GIB
from dsrl.planning.memory import Memory
from dsrl.planning.workload import Workload

HEADROOM = 0.9
"""The share of a device that `auto` fills: allocators leave gaps, and kernels have workspaces."""

STEP = 256
"""Budgets are multiples of so many tokens, so that devices of nearly the same size get the same."""


def largest_budget(peaks: Callable[[int], Memory], workload: Workload, vocabulary: int, gib: float) -> int:
    """Find the most tokens with which the update takes no more than HEADROOM of a device.

    Beyond one chunk of the head, the peak grows by the same bytes with every token, so two measurements tell.

    Args:
        peaks: the memory with that budget.
        workload: sizes of the rank's share; its own budget does not matter.
        vocabulary: V.
        gib: memory of the device.

    Returns:
        At least the longest row, which is a pass whatever the budget is; at most all rows of an optimizer step.
    """
    longest, rows = workload.longest_row, workload.rows_of_a_step
    if rows == 1:
        return longest
    chunk = math.ceil(CHUNK_BYTES / (4 * vocabulary) / longest)
    start = longest * max(1, min(chunk, rows // 2))
    first, second = (peaks(tokens).stages["update"].total() for tokens in (start, 2 * start))
    left = HEADROOM * gib * GIB - first
    budget = start + math.floor(left / max(1.0, (second - first) / start))
    return max(longest, min(budget - budget % STEP, rows * longest))
