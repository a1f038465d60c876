"""Where the time of an iteration goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Time the blocks of an iteration, in seconds of wall clock. `now` names the block that runs, for other threads;
    `seconds` are those of each block since the last read.
    """

    def __init__(self) -> None:
        self.now = "between"
        self._start = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Time a block; blocks of one name add up."""
        start, self.now = time.perf_counter(), what
        try:
            yield
        finally:
            self.now = "between"
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """Give `time/...` of each block, and `time/iteration` since the last read; start over."""
        now = time.perf_counter()
        seconds = {f"time/{what}": value for what, value in self.seconds.items()}
        seconds["time/iteration"] = now - self._start
        self._start, self.seconds = now, {}
        return seconds
