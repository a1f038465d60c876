"""Runs in a worker of verifier `python`: runs the code of one answer, once for each of its tests, in the sandbox.

A test is one of

    {"stdin": text}                   run the code as a program; what counts is its output
    {"call": name, "args": [...]}     call a function of it, or a method of its class Solution; the result, as JSON
    {"tests": code, "token": text}    run the statements after it; the token, which is written where they end

The reply holds a fingerprint of each of these outputs. It is compared in the trainer's process, so the answer's code
never meets what is expected, and no output is too long to be sent.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import resource
import runpy
import select
import signal
import sys
import time
import types
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, NoReturn

SANDBOX = runpy.run_path(str(Path(__file__).with_name("sandbox.py")))
FINGERPRINT = runpy.run_path(str(Path(__file__).with_name("fingerprint.py")))
RESULT = 3  # the file descriptor to which a function's result, or the token, is written


def reply(request: dict[str, Any]) -> dict[str, Any]:
    """Run a request {code, prelude, cases, seconds, limits}; return {"outputs": ...}.

    The outputs are a list with a fingerprint for each case, None where the case failed or no time was left. They are
    None as a whole where the sandbox ended before it replied. Where there can be no sandbox, the reply is
    {"refused": why}.
    """
    with contextlib.ExitStack() as stack:  # files in memory, which code inside the sandbox may not make
        files = [
            stack.enter_context(os.fdopen(os.memfd_create(name), "w+b", buffering=0))
            for name in ("given", "printed", "result")
        ]
        try:
            outputs = SANDBOX["run"](
                lambda: list(_outputs(request, files)),
                seconds=request["seconds"] + 0.5,
                disk=request["limits"]["file_size"],
            )
        except SANDBOX["SandboxError"] as error:
            return {"refused": str(error)}
    return {"outputs": outputs}


def _outputs(request: dict[str, Any], files: list[FileIO]) -> Iterator[str | None]:
    """Run each case in a process of its own. This runs inside the sandbox, as its first process."""
    memory = request["limits"]["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))  # this process reads what the cases write
    gc.freeze()  # so that garbage collection in the cases does not go through all objects of this process
    end = time.monotonic() + request["seconds"]
    for case in request["cases"]:
        yield _output(request, case, files, end) if time.monotonic() < end else None


def _output(request: dict[str, Any], case: dict[str, Any], files: list[FileIO], end: float) -> str | None:
    for file in files:  # no process of an earlier case is left that has them open
        file.seek(0)
        file.truncate()
    given, printed, result = files
    given.write(case.get("stdin", "").encode("utf-8", "replace"))
    given.seek(0)
    child = os.fork()
    if child == 0:
        _become_the_answer(
            request, case, [given.fileno(), printed.fileno(), os.open(os.devnull, os.O_WRONLY)], result.fileno()
        )
    exit_code = _exit_code(child, end)
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # all processes inside but this one; a fork that is under way is not missed
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    return _fingerprint(case, printed if "stdin" in case else result) if exit_code == 0 else None


def _fingerprint(case: dict[str, Any], file: FileIO) -> str | None:
    """Return the fingerprint of what was written; None where a result is not JSON, or too deep or large to be read."""
    file.seek(0)
    try:
        text = file.readall().decode("utf-8", "replace")
        return str(FINGERPRINT["of_value"](json.loads(text)) if "call" in case else FINGERPRINT["of_lines"](text))
    except (ValueError, RecursionError, MemoryError):
        return None


def _exit_code(child: int, end: float) -> int | None:
    """Return the exit code of a process that ends by itself before `end`, else None."""
    poll = select.poll()
    process = os.pidfd_open(child)
    try:
        poll.register(process, select.POLLIN)
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            return None
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(process)


def _become_the_answer(request: dict[str, Any], case: dict[str, Any], standard: list[int], result: int) -> NoReturn:
    """Limit this process, close all files but those it is given, run the case, and end as Python ends."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        for number, source in enumerate([*standard, result]):
            os.dup2(source, number)
        os.closerange(RESULT + 1, 1 << 16)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            file = os.fdopen(number, "w" if number else "r", closefd=False)
            for bound in (name, f"__{name}__"):  # an answer may replace the first, and restore it from the second
                setattr(sys, bound, file)
        SANDBOX["limit"](**request["limits"])
        try:
            _run(request, case)
        except SystemExit as left:
            failed = left.code if isinstance(left.code, int) else left.code is not None
            if failed & 255:
                raise
        _end()
        code = 0
    finally:
        os._exit(code)


def _end() -> None:
    """Do what Python does at the end of a program, except for ending the interpreter, which would take long."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()  # waits for all threads that are not daemons
    atexit._run_exitfuncs()
    if sys.stdout is not None and not getattr(sys.stdout, "closed", False):
        sys.stdout.flush()
    sys.stdout = sys.__stdout__
    gc.collect()
    vars(sys.modules["__main__"]).clear()
    gc.collect()  # flushes what was left open; twice, as Python does, since files may be in cycles
    with contextlib.suppress(ValueError):  # the output is closed, or detached
        if sys.stdout is not None:
            sys.stdout.flush()


def _run(request: dict[str, Any], case: dict[str, Any]) -> None:
    module = types.ModuleType("__main__")
    sys.modules["__main__"], sys.argv = module, ["answer.py"]
    scope = vars(module)
    for text in (request["prelude"], request["code"]):
        exec(compile(text, "answer.py", "exec", dont_inherit=True), scope)
    if "call" in case:
        function = scope.get(case["call"]) or getattr(scope["Solution"](), case["call"])
        os.write(RESULT, json.dumps(function(*case["args"])).encode())
    elif "tests" in case:
        exec(compile(case["tests"], "tests.py", "exec", dont_inherit=True), scope)
        os.write(RESULT, case["token"].encode())
