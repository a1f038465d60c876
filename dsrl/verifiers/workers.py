"""Processes that answer one request at a time, and may crash, hang or explode at the cost of that request alone.

A worker runs a Python file of its own, so nothing of the trainer is imported again, whatever `__main__` is. It talks in
lines of JSON: `"ready"` first, then for each request `[reply, spent]`, where `spent` asks to be replaced. The file is
given the time limit in seconds and the memory limit in bytes, and sets both on itself, so that a worker lost in a
computation ends even where the trainer was killed; one that waits ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import queue
import select
import subprocess
import sys
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.errors import DSRLError

START_LIMIT = 300.0
GRACE = 1.0


@dataclass(kw_only=True)
class Worker:
    """One process, started when first asked and again after it was lost. `timeout` is in seconds, `memory` in bytes."""

    program: Path
    timeout: float
    memory: int
    process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Any) -> Any:
        """The reply to `request`, or None where the worker was lost over it. Raises DSRLError where it cannot start."""
        process = self._running()
        line = self._exchange(process, request)
        if not line.endswith(b"\n"):
            self.stop()
            return None
        reply, spent = json.loads(line)
        if spent:
            self.stop()
        return reply

    def stop(self) -> None:
        """Kill and reap the process, if there is one."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(BrokenPipeError), process:
                pass

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is not None and self.process.poll() is None:
            return self.process
        self.stop()
        # -P keeps this package's folder off the path of the program; a session of its own is spared the terminal's ^C.
        command = [sys.executable, "-P", str(self.program), str(self.timeout), str(self.memory)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.process = process
        if _read_line(process, START_LIMIT) != b'"ready"\n':
            self.stop()
            raise DSRLError(
                f"a worker process did not start (exit code {process.returncode}); see its error above, "
                f"or run it: {' '.join(command)}"
            )
        return process

    def _exchange(self, process: subprocess.Popen[bytes], request: Any) -> bytes:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        return _read_line(process, self.timeout + GRACE)


class WorkerPool:
    """Workers that share a stream of requests. Any thread may ask; an idle worker is started when needed."""

    def __init__(self, *, program: Path, workers: int, timeout: float, memory: int) -> None:
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        members = [Worker(program=program, timeout=timeout, memory=memory) for _ in range(workers)]
        for worker in members:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=program.stem)
        self.close = weakref.finalize(self, _close, self._threads, members)

    def ask_all(self, requests: Sequence[Any]) -> list[Any]:
        """Replies in the order of the requests, None for each over which a worker was lost."""
        return list(self._threads.map(self._ask, requests))

    def _ask(self, request: Any) -> Any:
        worker = self._idle.get()  # as many threads as workers: never waits
        try:
            return worker.ask(request)
        finally:
            self._idle.put(worker)


def _close(threads: ThreadPoolExecutor, workers: Sequence[Worker]) -> None:
    """Waits for requests under way, at most the time limit. A finalizer runs once: by name, by GC or at exit."""
    threads.shutdown(cancel_futures=True)
    for worker in workers:
        worker.stop()


def _read_line(process: subprocess.Popen[bytes], limit: float) -> bytes:
    """The next line of output, or nothing where it ends or takes longer than `limit` seconds."""
    assert process.stdout is not None
    poll = select.poll()  # select() fails in a process of more than 1024 open files
    poll.register(process.stdout, select.POLLIN)
    return process.stdout.readline() if poll.poll(limit * 1000) else b""
