"""A plain callable as a verifier: ours, TRL's or verl's signature, taken as it is."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsrl.errors import ConfigError, DSRLError, nearest
from dsrl.registry import register
from dsrl.types import Rollouts
from dsrl.verifiers.pooled import PooledVerifier
from dsrl.verifiers.worker_pool import Worker, pool_size

PROGRAM = Path(__file__).with_name("function_worker.py")


@register("verifier", "function")
@dataclass(kw_only=True)
class Function(PooledVerifier):
    """What the callable at `path` returns: `package.module:fn`, or `folder/file.py:fn`.

    Its parameters say how it is called. `fn(response, prompt)` gives the score of one response; `prompt` has text,
    messages, answer, data_source and extra, as dsrl.types.Prompt. `fn(prompts, completions, **columns)` is TRL's: lists
    of N, chats as messages; columns are completion_ids, answer, ground_truth, data_source and whatever else the rows or
    their extra_info hold, as far as it has parameters for them or takes any. `fn(data_source, solution_str,
    ground_truth, extra_info)`, or as many of these as it has, is verl's. Each may be `async`. A score is a number,
    verl's mapping with `score`, or None: not applicable, which counts 0.

    It runs in `workers` processes that have the trainer's environment and no other limit than `timeout` seconds a call;
    what they start ends with them. A call that raises, overruns or returns another number of scores is repeated for
    each of its responses alone, and those that fail then score 0. Components: the share to which it applies, and the
    share that failed.
    """

    path: str
    timeout: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._asked = False
        module, _, name = self.path.rpartition(":")
        if not module or not name.isidentifier():
            raise ConfigError(
                f"verifier function: path must be package.module:function or file.py:function, not {self.path!r}"
            )

    def check(self) -> list[str]:
        """Whether the function is there, and in a signature that is known."""
        worker = self.worker()
        try:
            worker.ask({})
        except DSRLError as error:
            return [f"verifier function: path={self.path}: {str(error).rpartition('did not start: ')[2]}"]
        finally:
            worker.stop()
        return []

    def worker(self) -> Worker:
        """One that has imported the function."""
        return Worker(file=PROGRAM, timeout=self.timeout, arguments=(self.path, json.dumps(sys.path)))

    def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """Rewards, and the components `applicable` and `failed`.

        Raises DSRLError where it fails on all of several, ConfigError where no row has a column that it requires.
        """
        total = len(rollouts.texts)
        scores, problems = self._scores(rollouts) if total else ([], [])
        if total > 1 and all(problems):
            raise DSRLError(f"verifier function: {self.path} failed on each of {total} responses: {problems[0]}")
        found = torch.tensor([math.nan if score is None else score for score in scores], dtype=torch.float32)
        found = found.view(len(rollouts.prompts), rollouts.responses_per_prompt)
        failed = torch.tensor([bool(problem) for problem in problems]).view(found.shape).float()
        return found.nan_to_num(), {"applicable": (~found.isnan()).float(), "failed": failed}

    def score(self, rollouts: Rollouts) -> Tensor:
        """Rewards [B, G]."""
        return self.score_with_components(rollouts)[0]

    def _scores(self, rollouts: Rollouts) -> tuple[list[float | None], list[str]]:
        """Scores of N responses, 0 where it failed, and what went wrong with each."""
        (called,) = self.ask_all([{}])
        rows = [_row(rollouts, row, called["reads_ids"]) for row in range(len(rollouts.texts))]
        if not self._asked:  # a later batch may hold rows of sources that have none alone: they get None
            self._look_for(called["columns"], rows)
            self._asked = True
        scores: list[float | None] = [None] * len(rows)
        problems = [""] * len(rows)

        def call(calls: Sequence[range]) -> None:
            replies = self.ask_all([{"rows": rows[places.start : places.stop]} for places in calls])
            for places, reply in zip(calls, replies, strict=True):
                problem = (
                    "its process was lost: a crash, or over the timeout" if reply is None else reply.get("error", "")
                )
                for number, place in enumerate(places):
                    problems[place] = problem
                    scores[place] = 0.0 if problem else reply["scores"][number]

        size = self._rows_a_call(rollouts) if called["batched"] else 1
        call([range(first, min(first + size, len(rows))) for first in range(0, len(rows), size)])
        if size > 1:
            call([range(place, place + 1) for place, problem in enumerate(problems) if problem])
        return scores, problems

    def _look_for(self, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        """Raises ConfigError for a column that the function requires and no row has."""
        known = list(dict.fromkeys(name for row in rows for name in row["columns"]))
        for name in columns:
            if name not in known:
                raise ConfigError(
                    f"verifier function: {self.path} requires {name}, and no row has such a column; there are "
                    f"{', '.join(known)}. Rename the parameter, or give it a default, {name}=None."
                    f"{nearest(name, known)}"
                )

    def _rows_a_call(self, rollouts: Rollouts) -> int:
        """Whole groups, as many as give each worker one call."""
        prompts = -(-len(rollouts.prompts) // pool_size(self.workers))
        return prompts * rollouts.responses_per_prompt


def _row(rollouts: Rollouts, row: int, with_ids: bool) -> dict[str, Any]:
    prompt = rollouts.prompt_of(row)
    messages = None if prompt.messages is None else [dict(message) for message in prompt.messages]
    inner = prompt.extra.get("extra_info")
    columns = {**(inner if isinstance(inner, Mapping) else {}), **prompt.extra}
    columns |= {
        "answer": prompt.raw_ground_truth,
        "ground_truth": prompt.raw_ground_truth,
        "data_source": prompt.data_source,
    }
    if with_ids:
        columns["completion_ids"] = rollouts.tokens[row][rollouts.mask[row]].tolist()
    shown = {
        "text": prompt.text,
        "messages": messages,
        "ground_truth": prompt.ground_truth,
        "data_source": prompt.data_source,
    }
    return {"response": rollouts.texts[row], "prompt": {**shown, "extra": dict(prompt.extra)}, "columns": columns}
