"""Mathematical answers, checked by math-verify (github.com/huggingface/Math-Verify) where they can do no harm."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.boxed import last_boxed
from dsrl.verifiers.verifier import Verifier, ground_truth
from dsrl.verifiers.workers import WorkerPool

PROGRAM = Path(__file__).with_name("math_worker.py")
TAIL = 10_000
MEMORY = 2 * 2**30

_creation = threading.Lock()


@register("verifier", "math")
@dataclass(kw_only=True)
class Math(Verifier):
    """1 where math-verify finds the response's answer equal to the ground truth, else 0.

    The answer is boxed, else the last expression; only the last 10,000 characters of a response are read. A check has
    `timeout` seconds of wall time and 2 GiB, in one of `workers` processes (default: one a core, at most 8), which
    start at the first score; one that overruns or dies scores that answer 0 and is replaced. A ground truth that
    math-verify cannot read is compared with `answer` as a string.
    """

    timeout: float = 5.0
    workers: int | None = None
    _pool: WorkerPool | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ConfigError(f"verifier math: timeout must be above 0 seconds, not {self.timeout}")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"verifier math: workers must be at least 1, or null for one a core, not {self.workers}")
        if importlib.util.find_spec("math_verify") is None:
            raise ConfigError("verifier math needs the package math-verify: pip install 'math-verify[antlr4_9_3]'")

    def score_all(self, responses: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """1.0 or 0.0 for each of N responses; equal (response, ground truth) pairs are checked once.

        Raises ConfigError for a prompt without a ground truth, DSRLError where the workers cannot be started.
        """
        pairs = [(text[-TAIL:], ground_truth(prompt)) for text, prompt in zip(responses, prompts, strict=True)]
        unique = list(dict.fromkeys(pairs))
        verdicts = dict(zip(unique, self._running_pool().ask_all(unique), strict=True))
        return [float(self._is_right(verdicts[pair], *pair)) for pair in pairs]

    def answer(self, response: str) -> str:
        """The last box, or the last line, in which math-verify is likely to find its expression."""
        tail = response[-TAIL:].strip()
        boxed = last_boxed(tail)
        return tail.rpartition("\n")[2] if boxed is None else boxed.strip()

    def close(self) -> None:
        """End the worker processes."""
        with _creation:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _is_right(self, verdict: str | None, response: str, truth: str) -> bool:
        return self.answer(response) == truth if verdict == "unreadable truth" else verdict == "right"

    def _running_pool(self) -> WorkerPool:
        with _creation:
            if self._pool is None:
                workers = self.workers or min(8, len(os.sched_getaffinity(0)))
                self._pool = WorkerPool(program=PROGRAM, workers=workers, timeout=self.timeout, memory=MEMORY)
            return self._pool
