"""Agree, after a failure, on who saves the run: one rank for all, or all of them together."""

from __future__ import annotations

import time
import traceback
from contextlib import suppress

from torch._C._distributed_c10d import Store

WRITER, WRITTEN, TOGETHER = "rescue/writer", "rescue/written", "rescue/together"
FRAMES = 6
"""Innermost frames of two failures that must be the same, for these to be alike."""


class FailingRank:
    """A rank that has failed, among others that may have.

    Args:
        store: which all ranks reach, rank 0's.
        rank: this one.
        ranks: how many there are.
        patience: seconds to wait for ranks that fail at the same time.
    """

    def __init__(self, store: Store, rank: int, ranks: int, patience: float = 3.0) -> None:
        self.store, self.rank, self.ranks, self.patience = store, rank, ranks, patience

    def is_writer(self) -> bool:
        """Whether this rank is the one that saves for all: rank 0 if it fails, too, or the first one that does."""
        if self.rank != 0:
            self._wait_for(WRITER)
        return str(self.store.compare_set(WRITER, "", str(self.rank)), "utf-8") == str(self.rank)

    def tell(self, message: str) -> None:
        """Say on the writer that it is done, and what came of it."""
        with suppress(Exception):  # the store is gone with rank 0
            self.store.set(WRITTEN, message or " ")

    def wait_for_writer(self) -> str:
        """Wait on any other rank until the writer is done; returns what came of it. The watchdog ends what hangs."""
        while not self.store.check([WRITTEN]):
            time.sleep(0.1)
        return str(self.store.get(WRITTEN), "utf-8").strip()

    def all_alike(self, exception: BaseException, iteration: int) -> bool:
        """Whether all ranks have failed at the same place with the same kind of exception, and so may act together.

        The same answer on every rank that asks.
        """
        place = [
            f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(exception.__traceback__)[-FRAMES:]
        ]
        self.store.set(f"rescue/at/{self.rank}", "\n".join([type(exception).__name__, str(iteration), *place]))
        every = [f"rescue/at/{rank}" for rank in range(self.ranks)]
        alike = self._wait_for(*every) and len({*self.store.multi_get(every)}) == 1
        return str(self.store.compare_set(TOGETHER, "", str(alike)), "utf-8") == str(True)

    def _wait_for(self, *keys: str) -> bool:
        end = time.monotonic() + self.patience
        while not self.store.check(list(keys)):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True
