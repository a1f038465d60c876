"""The program of a worker process: requests, answered by the `reply` function of a file.

    python -P worker_program.py FILE TIMEOUT MEMORY [ARGUMENT ...]

FILE defines `reply(request)`; it may define `start(*arguments)`, called once before the first request. A request is a
pickle, after its length in 8 bytes. Out come lines of JSON: `{"ready": true}` or `{"failed": message}` first, then for
each request `[reply, spent]`, where `spent` asks to be replaced. What comes from the trainer may be trusted, what an
answer got hold of may not. TIMEOUT is in seconds a request, MEMORY in bytes (0: unlimited). It imports nothing of dsrl,
and so no torch: it starts in a fraction of a second, is small, and ends with its input.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import runpy
import signal
import sys


def main(file: str, timeout: float, memory: int, arguments: list[str]) -> None:
    """Answer requests until the input ends. The kernel keeps the limits, also where the trainer was killed."""
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
        handler = runpy.run_path(file)
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
        reply = handler["reply"](pickle.loads(request))
        if os.getpid() != worker:
            os._exit(0)  # a copy that came of a fork in `reply` does not answer, too
        signal.setitimer(signal.ITIMER_REAL, 0)
        spent = memory > 0 and _address_space() > memory / 2
        print(json.dumps([reply, spent]), file=replies, flush=True)


def _limit_memory(memory: int) -> None:
    if sys.platform == "linux":
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _address_space() -> int:
    """Bytes of address space in use, which the memory limit is about; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
