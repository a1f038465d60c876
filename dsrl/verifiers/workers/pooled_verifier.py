"""The base class of verifiers whose checks run in worker processes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dsrl.errors import ConfigError
from dsrl.verifiers.verifier import Verifier
from dsrl.verifiers.workers.pool import Worker, WorkerPool

_creation = threading.Lock()


@dataclass(kw_only=True)
class PooledVerifier(Verifier):
    """Check responses in worker processes: one that hangs or crashes its worker loses its own reward and no other.

    This is a base class. A subclass implements `worker`, and asks the workers by `ask_all`. The processes start at the
    first score.
    """

    timeout: float = 5.0
    """Seconds of wall time that the check of one response may take."""
    workers: int | None = None
    """Number of worker processes; null: one for each core, at most 8."""
    _pool: WorkerPool | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise ConfigError for an impossible timeout or number of workers."""
        name = type(self).__name__
        if not self.timeout > 0:
            raise ConfigError(f"verifier {name}: timeout must be above 0 seconds, not {self.timeout}")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(
                f"verifier {name}: workers must be at least 1, or null for one a core, not {self.workers}"
            )

    def worker(self) -> Worker:
        """Describe the workers of the pool: one that has not started, of which all are copies."""
        raise NotImplementedError

    def ask_all(self, requests: Sequence[Any]) -> list[Any]:
        """Return the replies in the order of the requests; None for each over which a worker was lost."""
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
