"""Read off /proc how much memory processes hold, beside mapped files (Linux)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_ARENA_MAX": "1"}
"""Variables of the environment that tell glibc, at the start of a process, to give freed memory back."""


def held(process: int, kinds: Sequence[str] = ("RssAnon",)) -> dict[int, int]:
    """Measure what a process, and each that it started, hold of these kinds of memory: bytes by process."""
    found: dict[int, int] = {}
    waiting = [process]
    while waiting:
        number = waiting.pop()
        folder = Path("/proc", str(number))
        try:
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            children = [file.read_text() for file in folder.glob("task/*/children")]
        except OSError:
            continue  # it has ended
        found[number] = sum(int(status[kind].split()[0]) for kind in kinds if kind in status) * 1024
        waiting += map(int, " ".join(children).split())
    return found


def peaks_gib(command: Sequence[str]) -> list[float]:
    """Run a command, and measure the peak of each of its processes in GiB. It ends this one where the command fails."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    run = subprocess.Popen(command, **quiet, env=os.environ | GIVING_BACK)
    highest: dict[int, int] = {}
    while run.poll() is None:
        for process, size in held(run.pid).items():
            highest[process] = max(size, highest.get(process, 0))
        time.sleep(0.02)
    if run.returncode:
        sys.exit(run.stderr.read().decode())
    return [peak / 2**30 for peak in highest.values()]
