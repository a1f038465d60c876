"""Verifiers whose checks run in worker processes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dsrl.errors import ConfigError
from dsrl.verifiers.verifier import Verifier
from dsrl.verifiers.worker_pool import Worker, WorkerPool

_creation = threading.Lock()


@dataclass(kw_only=True)
class PooledVerifier(Verifier):
    """Base of verifiers that ask processes, which a hostile answer may hang or crash at its own cost alone.

    timeout: seconds of wall time a request. workers: processes, None for one a core, at most 8; they start at the first
    score.
    """

    timeout: float = 5.0
    workers: int | None = None
    _pool: WorkerPool | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ConfigError for a timeout or a number of workers that cannot be."""
        name = type(self).__name__
        if not self.timeout > 0:
            raise ConfigError(f"verifier {name}: timeout must be above 0 seconds, not {self.timeout}")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(
                f"verifier {name}: workers must be at least 1, or null for one a core, not {self.workers}"
            )

    def worker(self) -> Worker:
        """A worker as all of the pool are."""
        raise NotImplementedError

    def ask_all(self, requests: Sequence[Any]) -> list[Any]:
        """Replies in the order of the requests, None for each over which a worker was lost."""
        with _creation:
            if self._pool is None:
                self._pool = WorkerPool(self.worker(), workers=self.workers)
            pool = self._pool
        return pool.ask_all(requests)

    def close(self) -> None:
        """End the worker processes."""
        with _creation:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
