"""Runs in a worker of verifier `function`: calls the user's callable, by the signature that its parameters show.

A request is {"rows": [...]}, where each row has response, prompt and columns. The reply is {"scores": [...],
"answers": [...]}, each score a number or null and each answer a text or null, or {"error": message, "traceback": text}.
Any other request asks how the callable is to be called, and which columns it requires.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import os
import select
import signal
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

OF_TRLS_TRAINER = ("trainer_state", "log_extra", "log_metric", "environments")
"""Parameters that TRL fills with parts of its own trainer, which do not exist here."""
OF_VERL = ("data_source", "solution_str", "ground_truth", "extra_info")
ANSWERS = ("extracted_answer", "pred")
"""What a mapping calls the answer that was extracted from a response: we, and verl."""
LARGEST = 3.4028234663852886e38
"""The largest float32, which is the type of rewards."""

_function: Callable[..., Any]


def start(path: str, search: str) -> None:
    """Import the callable at `path`, `package.module:fn` or `file.py:fn`; search: the trainer's sys.path as JSON."""
    global _function
    _end_the_group_with_this_process()
    sys.path[:] = [folder or "." for folder in json.loads(search)]
    module, _, name = path.rpartition(":")
    owner = _of_file(Path(module).resolve()) if module.endswith(".py") else importlib.import_module(module)
    if not callable(getattr(owner, name, None)):
        raise TypeError(f"{module} has no function {name}")
    _function = getattr(owner, name)
    _check()


def _of_file(file: Path) -> types.ModuleType:
    """Import a file as a module, under another name where its own name belongs to another module.

    Processes that the callable starts can import it again, forked or not, so what the file defines can be pickled.
    """
    sys.path.append(str(file.parent))
    name = file.stem.replace(".", "_")
    first = importlib.util.find_spec(name)
    if first is not None and first.origin != str(file):
        name = f"file_{name}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _end_the_group_with_this_process() -> None:
    """Start a process that waits until this one has ended, for whatever reason, and then kills all of its group.

    The trainer kills the group, too, but may be dead by then. The waiting process is not a child of this one, since the
    callable may wait for all children.
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
    """Return `trl`, `verl` or `dsrl`, by the names of the callable's parameters."""
    if "completions" in _parameters():
        return "trl"
    return "verl" if "solution_str" in _parameters() or "ground_truth" in _required() else "dsrl"


def _check() -> None:
    """Raise TypeError for a signature that none of the three calls fits."""
    if style() == "dsrl":
        try:
            inspect.signature(_function).bind("response", "prompt")
        except TypeError:
            raise TypeError(
                "its parameters must be (response, prompt), TRL's (prompts, completions, **columns) or verl's "
                f"(data_source, solution_str, ground_truth, extra_info), not {inspect.signature(_function)}"
            ) from None
        return
    if style() == "trl":
        absent, why = [name for name in _required() if name in OF_TRLS_TRAINER], "which TRL's trainer alone has"
    else:
        absent, why = (
            [name for name in _required() if name not in OF_VERL],
            f"and verl's are given {', '.join(OF_VERL)}",
        )
    if absent:
        raise TypeError(f"it requires {' and '.join(absent)}, {why}; give a default, {absent[0]}=None")
    if unnamed := [name for name, found in _parameters().items() if found.kind is found.POSITIONAL_ONLY]:
        raise TypeError(f"{' and '.join(unnamed)} cannot be given by name: take the / out of its parameters")


def _parameters() -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_function).parameters


def _required() -> list[str]:
    """Return the names of the parameters that have no default."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, found in _parameters().items()
        if found.default is inspect.Parameter.empty and found.kind not in several
    ]


def _accepts(name: str) -> bool:
    """Say whether the callable has a parameter of this name, or takes any."""
    return name in _parameters() or any(found.kind is found.VAR_KEYWORD for found in _parameters().values())


def reply(request: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of the request's rows, or the error that stopped the callable."""
    if "rows" not in request:
        batched = style() == "trl"
        columns = [name for name in _required() if batched and name not in ("prompts", "completions")]
        return {"batched": batched, "reads_ids": batched and _accepts("completion_ids"), "columns": columns}
    rows = request["rows"]
    try:
        found = {"trl": _as_trl, "verl": _as_verl, "dsrl": _as_dsrl}[style()](rows)
        scores, answers = [_number(score) for score in found], [_answer(score) for score in found]
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        return {"error": message, "traceback": _traceback(error)}
    if len(scores) != len(rows):
        message = f"{len(scores)} scores for {len(rows)} responses"
        return {"error": message, "traceback": message}
    return {"scores": scores, "answers": answers}


def _traceback(error: Exception) -> str:
    """Write an exception as Python does, without the frames of this file that it begins with."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__:
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))


def _as_trl(rows: list[dict[str, Any]]) -> Any:
    """Call it once, with lists of N prompts, completions and values of every column."""
    chats = [row["prompt"]["messages"] for row in rows]
    given: dict[str, list[Any]] = {
        "prompts": [row["prompt"]["text"] if chat is None else chat for row, chat in zip(rows, chats, strict=True)],
        "completions": [
            row["response"] if chat is None else [{"role": "assistant", "content": row["response"]}]
            for row, chat in zip(rows, chats, strict=True)
        ],
    }
    for name in dict.fromkeys([*_required(), *(name for row in rows for name in row["columns"])]):
        if name not in (*given, *OF_TRLS_TRAINER):
            given[name] = [row["columns"].get(name) for row in rows]
    return _called(**{name: values for name, values in given.items() if _accepts(name)})


def _as_verl(rows: list[dict[str, Any]]) -> list[Any]:
    given = [{**row["columns"], "solution_str": row["response"]} for row in rows]
    return [_called(**{name: row.get(name) for name in OF_VERL if _accepts(name)}) for row in given]


def _as_dsrl(rows: list[dict[str, Any]]) -> list[Any]:
    return [_called(row["response"], types.SimpleNamespace(**row["prompt"])) for row in rows]


def _called(*arguments: Any, **named: Any) -> Any:
    """Call it, and return its result, or that of its coroutine."""
    found = _function(*arguments, **named)
    return asyncio.run(found) if inspect.iscoroutine(found) else found


def _answer(score: Any) -> str | None:
    """Return the extracted answer that a mapping has beside its score, by one of the names in use."""
    given = score if isinstance(score, dict) else {}
    return next((str(given[key]) for key in ANSWERS if given.get(key) is not None), None)


def _number(score: Any) -> float | None:
    if isinstance(score, dict):
        score = score["score"]
    if score is None:
        return None
    number = float(score)
    if not abs(number) <= LARGEST:
        raise ValueError(f"a score of {number}")
    return number
