"""The program that a worker process runs: it reads requests, and answers each by the `reply` function of a handler.

    python -P program.py HANDLER TIMEOUT MEMORY [ARGUMENT ...]

HANDLER is a file that defines `reply(request)`. It may define `start(*arguments)`, which is called once before the
first request. TIMEOUT is in seconds for each request, MEMORY in bytes (0: no limit).

A request on the standard input is its length in 8 bytes and a pickle. On the standard output the first line of JSON is
`{"ready": true}` or `{"failed": message}`; then each request is answered by a line `[reply, spent, raised]`, where
`spent` says that the worker has used much memory, or raised, and should be replaced, and `raised` is null, or the
exception of `reply` as [message, traceback]. Requests are pickles and replies are JSON, since what comes from the
trainer can be trusted, and what a model's answer may have changed cannot.

It imports nothing of dsrl, and so no torch: it starts in a fraction of a second, is small, and ends with its input.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import runpy
import signal
import sys
import traceback
from collections.abc import Callable


def main(handler_file: str, timeout: float, memory: int, arguments: list[str]) -> None:
    """Answer requests until the input ends, within limits that the kernel enforces even where the trainer was killed.

    Args:
        handler_file: The file with `reply`.
        timeout: Seconds of wall time for each request.
        memory: Bytes of address space; 0: no limit.
        arguments: What the handler's `start` is called with.
    """
    worker = os.getpid()
    replies, requests = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(0), "rb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # what the libraries print is not a reply
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory:
        _limit_memory(memory)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process also inside a long computation in C
    try:
        handler = runpy.run_path(handler_file)
        os.dup2(nowhere, 2)
        if "start" in handler:
            handler["start"](*arguments)
        first: dict[str, object] = {"ready": True}
    except BaseException as error:
        first = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(first), file=replies, flush=True)
    while "ready" in first and (size := requests.read(8)):
        request = requests.read(int.from_bytes(size))
        signal.setitimer(signal.ITIMER_REAL, timeout)
        line = _answer(handler["reply"], request, memory)
        if os.getpid() != worker:
            os._exit(0)  # a process that `reply` forked must not answer as well
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(line, file=replies, flush=True)


def _answer(reply: Callable[[object], object], request: bytes, memory: int) -> str:
    """Return the line that answers a request, also where `reply` raises."""
    try:
        found = reply(pickle.loads(request))
        return json.dumps([found, memory > 0 and _address_space() > memory / 2, None])
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
        if error.__traceback__ is not None:  # its first frame is this function
            error = error.with_traceback(error.__traceback__.tb_next)
        return json.dumps([None, True, [message, "".join(traceback.format_exception(error))]])


def _limit_memory(memory: int) -> None:
    if sys.platform == "linux":
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _address_space() -> int:
    """Return the bytes of address space in use, which MEMORY limits; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
