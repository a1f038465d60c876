"""Processes that answer one request at a time, and may crash, hang or explode at the cost of that request alone.

A worker runs worker_program.py with a file of its own, so nothing of the trainer is imported again, whatever
`__main__` is.
It sets its limits on itself, so that one lost in a computation ends even where the trainer was killed; one that waits
ends with its input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import queue
import select
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.errors import DSRLError

PROGRAM = Path(__file__).with_name("worker_program.py")
START_LIMIT = 300.0
GRACE = 1.0


@dataclass(kw_only=True)
class Worker:
    """One process, started when first asked and again after it was lost.

    file: what it runs, see worker_program.py; arguments: what that is started with. timeout: seconds a request. memory:
    bytes,
    0 for no limit. environment: its variables, None for the trainer's.
    """

    file: Path
    timeout: float
    memory: int = 0
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Any) -> Any:
        """The reply to `request`, or None where the worker was lost over it.

        The request arrives as it is, a tuple as a tuple; the reply is what JSON knows. Raises DSRLError where the
        request cannot be sent or the worker cannot start.
        """
        message = packed(request)
        process = self._running()
        line = self._exchange(process, message)
        if not line.endswith(b"\n"):
            self.stop()
            return None
        reply, spent = json.loads(line)
        if spent:
            self.stop()
        return reply

    def stop(self) -> None:
        """Kill and reap the process, if there is one, and kill what it started in its session."""
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(BrokenPipeError), process:
                pass

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is not None and _runs(self.process):
            return self.process
        self.stop()
        # -P keeps this package's folder off the path of the program; a session of its own is spared the terminal's ^C.
        limits = (str(self.timeout), str(self.memory))
        command = [sys.executable, "-P", str(PROGRAM), str(self.file), *limits, *self.arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=self.environment
        )
        self.process = process
        line = _read_line(process, START_LIMIT)
        first = json.loads(line) if line.endswith(b"\n") else {}
        if "ready" not in first:
            self.stop()
            lost = f"exit code {process.returncode}; see its error above, or run it: {' '.join(command)}"
            raise DSRLError(f"a worker process of {self.file.name} did not start: {first.get('failed', lost)}")
        return process

    def _exchange(self, process: subprocess.Popen[bytes], message: bytes) -> bytes:
        assert process.stdin is not None
        try:
            process.stdin.write(message)
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        return _read_line(process, self.timeout + GRACE)


class WorkerPool:
    """Workers that share a stream of requests. Any thread may ask; an idle worker is started when needed."""

    def __init__(self, model: Worker, *, workers: int | None = None) -> None:
        """`pool_size(workers)` workers like `model`."""
        workers = pool_size(workers)
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        members = [dataclasses.replace(model) for _ in range(workers)]
        for worker in members:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=model.file.stem)
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


def packed(request: Any) -> bytes:
    """A request as worker_program.py reads it. Raises DSRLError for what cannot be sent to another process."""
    try:
        message = pickle.dumps(request)
    except Exception as error:  # whatever the objects of a data set raise
        raise DSRLError(
            f"a row holds what cannot be sent to a verifier's process: {type(error).__name__}: {error}"
        ) from error
    return len(message).to_bytes(8) + message


def pool_size(workers: int | None) -> int:
    """Workers of a pool: as many as are asked for, else one a core, at most 8."""
    return workers or min(8, len(os.sched_getaffinity(0)))


def _close(threads: ThreadPoolExecutor, workers: Sequence[Worker]) -> None:
    """Waits for requests under way, at most the time limit. A finalizer runs once: by name, by GC or at exit."""
    threads.shutdown(cancel_futures=True)
    for worker in workers:
        worker.stop()


def _runs(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has not ended. It is not reaped, so that its id is still that of its group, and of nothing else."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _read_line(process: subprocess.Popen[bytes], limit: float) -> bytes:
    """The next line of output, or nothing where it ends or takes longer than `limit` seconds."""
    assert process.stdout is not None
    poll = select.poll()  # select() fails in a process of more than 1024 open files
    poll.register(process.stdout, select.POLLIN)
    return process.stdout.readline() if poll.poll(limit * 1000) else b""
