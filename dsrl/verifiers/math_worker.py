"""What a worker of `math` runs: for each line [response, ground truth] a line [verdict, whether to replace the worker].

It imports nothing of dsrl, and so no torch: it starts in a second and is small. It speaks JSON and ends with its input.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

READING = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())


def check(response: str, truth: str) -> str:
    """The verdict: "right", "wrong", or "unreadable truth" where math-verify finds no expression in that to compare."""
    gold = _read_truth(truth)
    if verify(gold, parse(response, READING, parsing_timeout=None), timeout_seconds=None):
        return "right"
    return "unreadable truth" if all(isinstance(reading, str) for reading in gold) else "wrong"


@lru_cache(maxsize=256)
def _read_truth(truth: str) -> list[Any]:
    return list(parse(f"\\boxed{{{truth}}}", READING, parsing_timeout=None))


def main(timeout: float, memory: int) -> None:
    """Answer lines until the input ends. The kernel keeps the limits: `timeout` seconds a line, `memory` bytes."""
    replies = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what the libraries print is not a reply
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(memory)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process also inside a long computation in C
    check("\\boxed{1}", "1")  # compiles patterns and loads the grammar
    print(json.dumps("ready"), file=replies, flush=True)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, timeout)
        verdict = check(*json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps([verdict, _address_space() > memory / 2]), file=replies, flush=True)


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
    main(timeout=float(sys.argv[1]), memory=int(sys.argv[2]))
