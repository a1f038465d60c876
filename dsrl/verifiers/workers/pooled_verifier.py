"""The base class of verifiers whose checks run in worker processes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dsrl.errors import ConfigError
from dsrl.registry import registered_parts
from dsrl.verifiers.failures import Failure, FailureLog, Failures
from dsrl.verifiers.verifier import Verifier
from dsrl.verifiers.workers.pool import Answer, Worker, WorkerPool

LONGEST = 2000
"""Characters of a response that are kept with its failure."""
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
    max_failed: float = 0.5
    """Largest share of responses on which the check may raise, which score 0; above it the run stops."""
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
        if not 0 <= self.max_failed <= 1:
            raise ConfigError(f"verifier {name}: max_failed must be a share, 0 to 1, not {self.max_failed}")
        self._log = FailureLog(self.label(), self.max_failed)

    def label(self) -> str:
        """Name the verifier in messages."""
        known = registered_parts["verifier"].items()
        return f"verifier {next((name for name, part in known if part is type(self)), type(self).__name__)}"

    def worker(self) -> Worker:
        """Describe the workers of the pool: one that has not started, of which all are copies."""
        raise NotImplementedError

    def ask_all(self, requests: Sequence[Any]) -> list[Any]:
        """Return the replies in the order of the requests; None for each on which a worker raised or was lost.

        Raises DSRLError where too many raised: see `max_failed`.
        """
        answers = self.answer_all(requests)
        self._log.add(
            [
                Failure(message=answer.problem, traceback=answer.traceback, response=str(request)[:LONGEST])
                if answer.problem
                else None
                for request, answer in zip(requests, answers, strict=True)
            ]
        )
        return [answer.reply for answer in answers]

    def answer_all(self, requests: Sequence[Any]) -> list[Answer]:
        """Return the answers of the workers in the order of the requests, and take no note of failures."""
        with _creation:
            if self._pool is None:
                self._pool = WorkerPool(self.worker(), workers=self.workers)
            pool = self._pool
        return pool.answer_all(requests)

    def take_failures(self) -> list[Failures]:
        """Give what it failed on since the last call."""
        return [self._log.take()]

    def close(self) -> None:
        """End the worker processes."""
        with _creation:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
