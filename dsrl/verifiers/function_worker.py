"""What a worker of `function` runs: the user's callable, in the signature that its parameters show.

A request is {"rows": [...]}; a row has response, prompt, columns. The reply is {"scores": [...]}, each a number or
null, or {"error": what}. Any other request asks how the function is to be called.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import math
import os
import runpy
import select
import signal
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

OF_TRLS_TRAINER = ("trainer_state", "log_extra", "log_metric", "environments")
"""What TRL also hands over: objects of its trainer, of which there is none here."""

_function: Callable[..., Any]


def start(path: str, search: str) -> None:
    """Find `path.to.module:fn` or `file.py:fn`; `search` is the trainer's sys.path as JSON."""
    global _function
    _end_the_group_with_this_process()
    sys.path[:] = [folder or "." for folder in json.loads(search)]
    module, _, name = path.rpartition(":")
    if module.endswith(".py"):
        owner: Any = types.SimpleNamespace(**runpy.run_path(module, run_name="rewards"))
    else:
        owner = importlib.import_module(module)
    if not callable(getattr(owner, name, None)):
        raise TypeError(f"{module} has no function {name}")
    _function = getattr(owner, name)
    style()


def _end_the_group_with_this_process() -> None:
    """Start a process that waits until this one has ended, however that comes, and kills what it has started.

    The trainer does so, too, but may be dead by then. It is no child of this one: the function may wait for all of its.
    """
    worker = os.pidfd_open(os.getpid())
    between = os.fork()
    if between == 0:
        if os.fork() == 0:
            select.select([worker], [], [])
            os.killpg(0, signal.SIGKILL)
        os._exit(0)
    os.waitpid(between, 0)
    os.close(worker)


def style() -> str:
    """`trl`, `verl` or `dsrl`, by the names of the parameters. Raises TypeError for others, or what cannot be given."""
    parameters = inspect.signature(_function).parameters
    if "completions" in parameters:
        absent = [key for key in OF_TRLS_TRAINER if key in parameters and parameters[key].default is inspect._empty]
        if absent:
            raise TypeError(
                f"it requires {' and '.join(absent)}, which TRL's trainer alone has; give a default, {absent[0]}=None"
            )
        return "trl"
    if "solution_str" in parameters:
        return "verl"
    try:
        inspect.signature(_function).bind("response", "prompt")
    except TypeError:
        raise TypeError(
            "its parameters must be (response, prompt), TRL's (prompts, completions, **columns) or verl's "
            f"(data_source, solution_str, ground_truth, extra_info), not {inspect.signature(_function)}"
        ) from None
    return "dsrl"


def reply(request: dict[str, Any]) -> dict[str, Any]:
    """The scores of the request's rows, or what stopped the function."""
    if "rows" not in request:
        return {"batched": style() == "trl", "reads_ids": style() == "trl" and _accepts("completion_ids")}
    rows = request["rows"]
    try:
        found = {"trl": _as_trl, "verl": _as_verl, "dsrl": _as_dsrl}[style()](rows)
        found = asyncio.run(found) if inspect.iscoroutine(found) else found
        scores = [_number(score) for score in found]
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return {"error": f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"}
    if len(scores) != len(rows):
        return {"error": f"{len(scores)} scores for {len(rows)} responses"}
    return {"scores": scores}


def _as_trl(rows: list[dict[str, Any]]) -> Any:
    """One call with lists of N prompts, completions, and of every column."""
    chats = [row["prompt"]["messages"] for row in rows]
    given: dict[str, list[Any]] = {
        "prompts": [row["prompt"]["text"] if chat is None else chat for row, chat in zip(rows, chats, strict=True)],
        "completions": [
            row["response"] if chat is None else [{"role": "assistant", "content": row["response"]}]
            for row, chat in zip(rows, chats, strict=True)
        ],
    }
    for name in dict.fromkeys(name for row in rows for name in row["columns"]):
        if name not in (*given, *OF_TRLS_TRAINER):
            given[name] = [row["columns"].get(name) for row in rows]
    return _function(**{name: values for name, values in given.items() if _accepts(name)})


def _accepts(name: str) -> bool:
    """Whether the function has a parameter of this name, or takes any."""
    parameters = inspect.signature(_function).parameters
    return name in parameters or any(found.kind is found.VAR_KEYWORD for found in parameters.values())


def _as_verl(rows: list[dict[str, Any]]) -> list[Any]:
    return [
        _function(
            data_source=row["columns"]["data_source"],
            solution_str=row["response"],
            ground_truth=row["columns"]["ground_truth"],
            extra_info=row["columns"].get("extra_info"),
        )
        for row in rows
    ]


def _as_dsrl(rows: list[dict[str, Any]]) -> list[Any]:
    return [_function(row["response"], types.SimpleNamespace(**row["prompt"])) for row in rows]


def _number(score: Any) -> float | None:
    if isinstance(score, dict):
        score = score["score"]
    if score is None:
        return None
    number = float(score)
    if not math.isfinite(number):
        raise ValueError(f"a score of {number}")
    return number
