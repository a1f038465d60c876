"""Mathematical answers, checked by math-verify (github.com/huggingface/Math-Verify) where they can do no harm."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.boxed import last_boxed
from dsrl.verifiers.pooled import PooledVerifier
from dsrl.verifiers.verifier import ground_truth_of
from dsrl.verifiers.worker_pool import Worker

PROGRAM = Path(__file__).with_name("math_worker.py")
TAIL = 10_000
MEMORY = 2 * 2**30


@register("verifier", "math")
@dataclass(kw_only=True)
class Math(PooledVerifier):
    """1 where math-verify finds the response's answer equal to the ground truth, else 0.

    The answer is boxed, else the last expression; only the last 10,000 characters of a response are read. A check has
    `timeout` seconds of wall time and 2 GiB; one that overruns or dies scores that answer 0. A ground truth that
    math-verify cannot read is compared with `answer` as a string.

    strict: as math-verify compares by default. Lenient (strict false, math-verify's `strict=False` and
    `allow_set_relation_comp=True`): variables match by position, y + 1 is x + 1; 1 < x < 2 is (1, 2).
    """

    strict: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if importlib.util.find_spec("math_verify") is None:
            raise ConfigError("verifier math needs the package math-verify: pip install math-verify")

    def worker(self) -> Worker:
        """One that runs math-verify."""
        mode = "strict" if self.strict else "lenient"
        return Worker(file=PROGRAM, timeout=self.timeout, memory=MEMORY, arguments=(mode,))

    def score_all(self, responses: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """1.0 or 0.0 for each of N responses; equal (response, ground truth) pairs are checked once.

        Raises ConfigError for a prompt without a ground truth, DSRLError where the workers cannot be started.
        """
        pairs = [(text[-TAIL:], ground_truth_of(prompt)) for text, prompt in zip(responses, prompts, strict=True)]
        unique = list(dict.fromkeys(pairs))
        verdicts = dict(zip(unique, self.ask_all(unique), strict=True))
        return [float(self._is_right(verdicts[pair], *pair)) for pair in pairs]

    def extract_answer(self, response: str) -> str:
        """The last box, or the last line, in which math-verify is likely to find its expression."""
        tail = response[-TAIL:].strip()
        boxed = last_boxed(tail)
        return tail.rpartition("\n")[2] if boxed is None else boxed.strip()

    def _is_right(self, verdict: str | None, response: str, truth: str) -> bool:
        return self.extract_answer(response) == truth if verdict == "unreadable truth" else verdict == "right"
