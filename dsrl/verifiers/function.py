"""Verifier `function`: a plain callable with our signature, TRL's or verl's, used as it is."""

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
from dsrl.verifiers.failures import Failure, said
from dsrl.verifiers.verifier import APPLICABLE
from dsrl.verifiers.workers.pool import Worker, pool_size
from dsrl.verifiers.workers.pooled_verifier import LONGEST, PooledVerifier

HANDLER = Path(__file__).parent / "workers" / "function_handler.py"


@register("verifier", "function")
@dataclass(kw_only=True)
class Function(PooledVerifier):
    """Score what a callable of yours returns. The names of its parameters decide how it is called:

    - `fn(response, prompt)`, once for each response. `prompt` has the attributes text, messages, ground_truth,
      data_source and extra of `dsrl.types.Prompt`.
    - `fn(prompts, completions, **columns)`, as TRL calls it, with lists of N; chats are lists of messages. Columns are
      completion_ids, answer, ground_truth, data_source, and all others of the rows or their extra_info. The function is
      given those that it names, or all where it takes `**kwargs`.
    - `fn(data_source, solution_str, ground_truth, extra_info)`, as verl calls it, once for each response. It is given
      those of the four that it names.

    Each may be `async`. A score is a number, verl's mapping with `score`, or None, which means, as in TRL, that the
    function does not apply to this response: it has no reward, and the component `applicable` is 0. A mapping may also
    have the answer that was extracted from the response, as `extracted_answer` or, as verl has it, `pred`: it is shown
    in samples.jsonl, and counted in `maj@k`. Without it there is no extracted answer, and no `maj@k`.

    The callable runs in worker processes, which have the trainer's environment; what they start ends with them. A call
    that raises, takes longer than `timeout` or returns another number of scores is repeated for each of its responses
    alone. Responses that fail alone score 0, and the component `failed` counts them; the first such error is logged. It
    is an error where it raises on more than `max_failed` of them, where all of several fail, and where the callable
    requires a column that no row has.
    """

    path: str
    """Where the callable is: `package.module:fn` or `folder/file.py:fn`."""
    timeout: float = 60.0
    """Seconds of wall time that one call may take."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._columns_checked = False
        self._gives_answers = False
        self._answers: dict[tuple[str, str], str | None] = {}  # of the last batch, by prompt and response
        module, _, name = self.path.rpartition(":")
        if not module or not name.isidentifier():
            raise ConfigError(
                f"verifier function: path must be package.module:function or file.py:function, not {self.path!r}"
            )

    def check(self) -> list[str]:
        """Return a problem where the callable cannot be imported, or has none of the three signatures."""
        worker = self.worker()
        try:
            worker.ask({})
        except DSRLError as error:
            return [f"verifier function: path={self.path}: {str(error).rpartition('did not start: ')[2]}"]
        finally:
            worker.stop()
        return []

    def worker(self) -> Worker:
        """Describe a worker that imports the callable."""
        return Worker(handler=HANDLER, timeout=self.timeout, arguments=(self.path, json.dumps(sys.path)))

    def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute rewards [B, G], NaN where there is none, and the components `applicable` and `failed` [B, G], which
        are 1 or 0.

        Raises DSRLError where the callable fails on all of several responses, and ConfigError where it requires a
        column that no row has.
        """
        total = len(rollouts.texts)
        scores, problems = self._scores(rollouts) if total else ([], [])
        self._log.add(problems)
        lost = [problem for problem in problems if problem and not problem.raised]
        if total > 1 and lost and all(problems):
            raise DSRLError(f"{self.label()} failed on each of {total} responses: {said(lost[0])}")
        found = torch.tensor([math.nan if score is None else score for score in scores], dtype=torch.float32)
        found = found.view(len(rollouts.prompts), rollouts.responses_per_prompt)
        failed = torch.tensor([problem is not None for problem in problems]).view(found.shape).float()
        return found, {APPLICABLE: (~found.isnan()).float(), "failed": failed}

    def component_names(self) -> list[str]:
        """Name the two components."""
        return [APPLICABLE, "failed"]

    def score(self, rollouts: Rollouts) -> Tensor:
        """Compute rewards [B, G], NaN where there is none."""
        return self.score_with_components(rollouts)[0]

    def extract_answers(self, rollouts: Rollouts) -> list[str | None]:
        """Give the answers that the callable returned with the scores of these N responses, when it last scored.

        None where it never returned any; empty where it returned none for this response.
        """
        none = "" if self._gives_answers else None
        prompts = [rollouts.prompt_of(row).text for row in range(len(rollouts.texts))]
        return [self._answers.get(pair) or none for pair in zip(prompts, rollouts.texts, strict=True)]

    def label(self) -> str:
        """Name the callable in messages."""
        return f"verifier function: {self.path}"

    def _scores(self, rollouts: Rollouts) -> tuple[list[float | None], list[Failure | None]]:
        """Return the scores of N responses, 0 where the callable failed, and the failure of each, or None."""
        (how,) = self.answer_all([{}])
        if how.reply is None:
            raise DSRLError(f"{self.label()} cannot be asked how it is called: {how.problem}")
        called = how.reply
        with_ids = called["reads_ids"] and rollouts.tokens.shape[1] > 0  # texts that nobody sampled have none
        rows = [_row(rollouts, row, with_ids) for row in range(len(rollouts.texts))]
        if not self._columns_checked:  # a later batch may hold rows of sources that have none alone: they get None
            self._check_columns(called["columns"], rows)
            self._columns_checked = True
        scores: list[float | None] = [None] * len(rows)
        answers: list[str | None] = [None] * len(rows)
        problems: list[Failure | None] = [None] * len(rows)

        def call(calls: Sequence[range]) -> None:
            found = self.answer_all([{"rows": rows[places.start : places.stop]} for places in calls])
            for places, answer in zip(calls, found, strict=True):
                reply = answer.reply or {"error": answer.problem, "traceback": answer.traceback}
                for number, place in enumerate(places):
                    problems[place] = _failure(rollouts, place, reply) if "error" in reply else None
                    scores[place], answers[place] = (
                        (0.0, None) if "error" in reply else (reply["scores"][number], reply["answers"][number])
                    )

        size = self._rows_a_call(rollouts) if called["batched"] else 1
        call([range(first, min(first + size, len(rows))) for first in range(0, len(rows), size)])
        if size > 1:
            call([range(place, place + 1) for place, problem in enumerate(problems) if problem])
        asked = [rollouts.prompt_of(row).text for row in range(len(rows))]
        self._gives_answers |= any(answer is not None for answer in answers)
        self._answers = dict(zip(zip(asked, rollouts.texts, strict=True), answers, strict=True))
        return scores, problems

    def _check_columns(self, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        """Raise ConfigError for a column that the callable requires and no row has."""
        known = list(dict.fromkeys(name for row in rows for name in row["columns"]))
        for name in columns:
            if name not in known:
                raise ConfigError(
                    f"verifier function: {self.path} requires {name}, and no row has such a column; there are "
                    f"{', '.join(known)}. Rename the parameter, or give it a default, {name}=None."
                    f"{nearest(name, known)}"
                )

    def _rows_a_call(self, rollouts: Rollouts) -> int:
        """Return how many responses go into a call: whole groups, so many that each worker gets one call."""
        prompts = -(-len(rollouts.prompts) // pool_size(self.workers))
        return prompts * rollouts.responses_per_prompt


def _failure(rollouts: Rollouts, row: int, reply: Mapping[str, str]) -> Failure:
    return Failure(
        message=reply["error"],
        traceback=reply["traceback"],
        response=rollouts.texts[row][:LONGEST],
        question=rollouts.prompt_of(row).text[:LONGEST],
    )


def _row(rollouts: Rollouts, row: int, with_ids: bool) -> dict[str, Any]:
    """Describe one response to the worker: its text, its prompt, and the columns of its row."""
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
