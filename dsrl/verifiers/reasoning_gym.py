"""Answers to reasoning_gym's tasks (github.com/open-thought/reasoning-gym), by the tasks' own scorers."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.errors import ConfigError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.boxed import last_boxed
from dsrl.verifiers.pooled import PooledVerifier
from dsrl.verifiers.verifier import column
from dsrl.verifiers.worker_pool import Worker

PROGRAM = Path(__file__).with_name("reasoning_gym_worker.py")
TAIL = 100_000
MEMORY = 4 * 2**30
TAGGED = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)


@register("verifier", "reasoning_gym")
@dataclass(kw_only=True)
class ReasoningGym(PooledVerifier):
    """What the scorer of the row's task says, from 0 to 1.

    The row's extra_info holds `entry`, the task's question, answer and metadata (a mapping, or JSON in a string); the
    task is the entry's `metadata.source_dataset`, else the last part of `data_source`: reasoning_gym/chain_sum.

    The answer is in the last <answer> tags, else in the last \\boxed{}, else the whole response; only the last 100,000
    characters of a response are read. Where the scorer fails, or overruns `timeout` seconds or 4 GiB, that answer
    scores 0.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if importlib.util.find_spec("reasoning_gym") is None:
            raise ConfigError("verifier reasoning_gym needs its package: pip install 'dual-space-rl[reasoning-gym]'")

    def worker(self) -> Worker:
        """One that has reasoning_gym."""
        return Worker(file=PROGRAM, timeout=self.timeout, memory=MEMORY)

    def score_all(self, responses: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """Scores of N responses. Raises ConfigError for a row without entry or of an unknown task."""
        tasks = [task_and_entry(prompt) for prompt in prompts]
        requests = [
            (task, self.extract_answer(text), entry) for text, (task, entry) in zip(responses, tasks, strict=True)
        ]
        replies = self.ask_all(requests)
        for (task, _), reply in zip(tasks, replies, strict=True):
            if isinstance(reply, str):
                raise ConfigError(f"verifier reasoning_gym: task '{task}': {reply}")
        return [reply or 0.0 for reply in replies]

    def extract_answer(self, response: str) -> str:
        """The text that is scored."""
        tail = response[-TAIL:]
        tagged = TAGGED.findall(tail)
        boxed = None if tagged else last_boxed(tail)
        return str(tagged[-1] if tagged else tail if boxed is None else boxed).strip()


def task_and_entry(prompt: Prompt) -> tuple[str, Mapping[str, Any]]:
    """The name of the prompt's task and its entry. Raises ConfigError where they are not there."""
    entry = column(prompt, "entry")
    if isinstance(entry, str):
        try:
            entry = json.loads(entry)
        except ValueError as error:
            raise ConfigError(f"extra_info.entry of a row is not JSON ({error}): {entry[:200]!r}") from error
    if not isinstance(entry, Mapping) or not {"question", "answer", "metadata"} <= {*entry}:
        raise ConfigError(f"extra_info.entry of a row must hold question, answer and metadata: {str(entry)[:200]}")
    named = entry["metadata"].get("source_dataset") if isinstance(entry["metadata"], Mapping) else None
    return str(named or prompt.data_source.rpartition("/")[2]), entry
