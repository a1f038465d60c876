"""What a worker of `python` runs: the code of one answer, once for each of its tests, in the sandbox.

A case is {"stdin": text}: the code as a program; {"call": name, "args": [...]}: a function of it, or a method of its
class Solution; {"tests": code, "token": text}: code that runs after it. What comes out is the program's output, the
function's result as JSON, the token. Its fingerprint is compared outside: the answer's code never meets what is
expected, and no output is too long to be sent.
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
RESULT = 3  # the file number under which a function's result, or the token, is left


def reply(request: dict[str, Any]) -> dict[str, Any]:
    """{"outputs": ...} of a request {code, prelude, cases, seconds, limits}, or {"refused": why} without a sandbox.

    An output is a fingerprint for each case, None where that failed or time was over; outputs are None where all was
    lost.
    """
    with contextlib.ExitStack() as stack:  # files in memory, which the room itself may not make
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
    """In the sandbox, as its first process: each case in a process of its own."""
    memory = request["limits"]["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))  # this one reads what they leave
    gc.freeze()  # so that a collection in them is not about all that is here
    end = time.monotonic() + request["seconds"]
    for case in request["cases"]:
        yield _output(request, case, files, end) if time.monotonic() < end else None


def _output(request: dict[str, Any], case: dict[str, Any], files: list[FileIO], end: float) -> str | None:
    for file in files:  # no process is left that has them
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
        os.kill(-1, signal.SIGKILL)  # all but this one; a fork under way does not get past it
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    return _fingerprint(case, printed if "stdin" in case else result) if exit_code == 0 else None


def _fingerprint(case: dict[str, Any], file: FileIO) -> str | None:
    """That of what came out; None where a result is no JSON, or too deep or large to be read."""
    file.seek(0)
    try:
        text = file.readall().decode("utf-8", "replace")
        return str(FINGERPRINT["of_value"](json.loads(text)) if "call" in case else FINGERPRINT["of_lines"](text))
    except (ValueError, RecursionError, MemoryError):
        return None


def _exit_code(child: int, end: float) -> int | None:
    """That of a process that ends in time by itself, else None."""
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
    """Limit this process, give it its files and nothing else, run, and end as Python ends."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        for number, source in enumerate([*standard, result]):
            os.dup2(source, number)
        os.closerange(RESULT + 1, 1 << 16)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            file = os.fdopen(number, "w" if number else "r", closefd=False)
            for bound in (name, f"__{name}__"):  # an answer may replace the first, and come back to the second
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
    """What Python does at the end of a program, without taking itself down, which costs more than a short program."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()  # waits for those that are not daemons
    atexit._run_exitfuncs()
    if sys.stdout is not None and not getattr(sys.stdout, "closed", False):
        sys.stdout.flush()
    sys.stdout = sys.__stdout__
    gc.collect()
    vars(sys.modules["__main__"]).clear()
    gc.collect()  # what was left open is flushed; twice, as Python does, for files in cycles
    with contextlib.suppress(ValueError):  # it is closed, or detached
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
