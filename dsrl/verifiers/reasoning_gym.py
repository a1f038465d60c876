"""Verifier `reasoning_gym`: the scorers of reasoning_gym's tasks (github.com/open-thought/reasoning-gym)."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.errors import ConfigError, install_extra
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.ground_truth import column_of
from dsrl.verifiers.last_boxed import last_boxed
from dsrl.verifiers.workers.pool import Worker
from dsrl.verifiers.workers.pooled_verifier import PooledVerifier

HANDLER = Path(__file__).parent / "workers" / "reasoning_gym_handler.py"
TAIL = 100_000
"""Characters at the end of a response that are read."""
MEMORY = 4 * 2**30
"""Bytes that a worker may use."""
TAGGED = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)


@register("verifier", "reasoning_gym")
@dataclass(kw_only=True)
class ReasoningGym(PooledVerifier):
    """Score from 0 to 1, as the scorer of the row's task does.

    The row or its extra_info needs a column `entry`: the task's question, answer and metadata, as a mapping or as JSON
    in a string. The task is the entry's `metadata.source_dataset`, else the last part of `data_source`, such as
    chain_sum of reasoning_gym/chain_sum. `data=reasoning_gym` makes such rows.

    The answer is the text between the last <answer> tags, else the content of the last \\boxed{}, else the whole
    response. Only the last 100,000 characters of a response are read. An answer on which the scorer fails, takes longer
    than `timeout` or needs more than 4 GiB scores 0.

    A row without an entry, or of a task that reasoning_gym does not have, is an error.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if importlib.util.find_spec("reasoning_gym") is None:
            raise ConfigError(f"verifier reasoning_gym needs its package: {install_extra('reasoning-gym')}")

    def worker(self) -> Worker:
        """Describe a worker that runs the scorers."""
        return Worker(handler=HANDLER, timeout=self.timeout, memory=MEMORY)

    def score_all(self, responses: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """Return the scores of N responses. Raises ConfigError for a row without entry or of an unknown task."""
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
        """Return the text that is scored."""
        tail = response[-TAIL:]
        tagged = TAGGED.findall(tail)
        boxed = None if tagged else last_boxed(tail)
        return str(tagged[-1] if tagged else tail if boxed is None else boxed).strip()


def task_and_entry(prompt: Prompt) -> tuple[str, Mapping[str, Any]]:
    """Return the name of the prompt's task, and its entry. Raises ConfigError where they are not there."""
    entry = column_of(prompt, "entry")
    if isinstance(entry, str):
        try:
            entry = json.loads(entry)
        except ValueError as error:
            raise ConfigError(f"extra_info.entry of a row is not JSON ({error}): {entry[:200]!r}") from error
    if not isinstance(entry, Mapping) or not {"question", "answer", "metadata"} <= {*entry}:
        raise ConfigError(f"extra_info.entry of a row must hold question, answer and metadata: {str(entry)[:200]}")
    named = entry["metadata"].get("source_dataset") if isinstance(entry["metadata"], Mapping) else None
    return str(named or prompt.data_source.rpartition("/")[2]), entry
