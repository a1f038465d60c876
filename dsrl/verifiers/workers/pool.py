"""Worker processes, as the trainer sees them: start them, ask them, replace those that are lost.

A worker answers one request at a time. Where it crashes, hangs or runs out of memory, that request alone is lost.

A worker runs program.py with a handler, so it imports nothing of the trainer, whatever `__main__` is. It sets its
limits on itself, so a worker in an endless computation ends even where the trainer was killed. A worker that waits for
a request ends when its input is closed.
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

PROGRAM = Path(__file__).with_name("program.py")
START_LIMIT = 300.0
"""Seconds that a worker may take to start."""
GRACE = 1.0
"""Seconds over its timeout after which a worker that has not ended itself is killed."""


LOST = "its process was lost: a crash, or over the timeout"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a worker makes of a request.

    Args:
        reply: what its handler returned; None where there is a problem.
        problem: why there is no reply: the exception of the handler with its file and line, or LOST.
        traceback: of that exception.
    """

    reply: Any
    problem: str = ""
    traceback: str = ""


@dataclass(kw_only=True)
class Worker:
    """Hold one process, which starts when it is first asked, and again after it was lost."""

    handler: Path
    """The file that answers requests; program.py says what it defines."""
    timeout: float
    """Seconds of wall time that a request may take."""
    memory: int = 0
    """Bytes of address space; 0: no limit."""
    arguments: tuple[str, ...] = ()
    """What the handler's `start` is called with."""
    environment: Mapping[str, str] | None = None
    """The environment variables of the process; None: the trainer's."""
    process: subprocess.Popen[bytes] | None = None
    """The process, while there is one."""

    def ask(self, request: Any) -> Any:
        """Send a request and return its reply, or None where there is none; see `answer`."""
        return self.answer(request).reply

    def answer(self, request: Any) -> Answer:
        """Send a request and return its reply, or why there is none.

        The request is pickled, so a tuple arrives as a tuple; the reply has been through JSON. Raises DSRLError where
        the request cannot be pickled or the worker cannot start.
        """
        message = encode_request(request)
        process = self._running()
        line = self._exchange(process, message)
        if not line.endswith(b"\n"):
            self.stop()
            return Answer(reply=None, problem=LOST)
        reply, spent, raised = json.loads(line)
        if spent:
            self.stop()
        problem, trace = raised or ("", "")
        return Answer(reply=reply, problem=problem, traceback=trace)

    def stop(self) -> None:
        """Kill the process, if there is one, with all others of its process group, and reap it."""
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
        command = [sys.executable, "-P", str(PROGRAM), str(self.handler), *limits, *self.arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=self.environment
        )
        self.process = process
        line = _read_line(process, START_LIMIT)
        first = json.loads(line) if line.endswith(b"\n") else {}
        if "ready" not in first:
            self.stop()
            lost = f"exit code {process.returncode}; see its error above, or run it: {' '.join(command)}"
            raise DSRLError(f"a worker process of {self.handler.name} did not start: {first.get('failed', lost)}")
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
    """Share requests among several workers. Any thread may ask. A worker starts when it gets its first request."""

    def __init__(self, model: Worker, *, workers: int | None = None) -> None:
        """Make `pool_size(workers)` workers like `model`."""
        workers = pool_size(workers)
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        members = [dataclasses.replace(model) for _ in range(workers)]
        for worker in members:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=model.handler.stem)
        self.close = weakref.finalize(self, _close, self._threads, members)

    def answer_all(self, requests: Sequence[Any]) -> list[Answer]:
        """Return the answers in the order of the requests."""
        return list(self._threads.map(self._answer, requests))

    def _answer(self, request: Any) -> Answer:
        worker = self._idle.get()  # there are as many threads as workers, so this never waits
        try:
            return worker.answer(request)
        finally:
            self._idle.put(worker)


def encode_request(request: Any) -> bytes:
    """Write a request in the form that program.py reads. Raises DSRLError for what cannot be pickled."""
    try:
        message = pickle.dumps(request)
    except Exception as error:  # whatever the objects of a data set raise
        raise DSRLError(
            f"a row holds what cannot be sent to a verifier's process: {type(error).__name__}: {error}"
        ) from error
    return len(message).to_bytes(8) + message


def pool_size(workers: int | None) -> int:
    """Return the number of workers of a pool: the one asked for, else one for each core, at most 8."""
    return workers or min(8, len(os.sched_getaffinity(0)))


def _close(threads: ThreadPoolExecutor, workers: Sequence[Worker]) -> None:
    """Wait for requests under way, at most for their time limit, and stop the workers.

    As a finalizer it runs once: when the pool is closed, when it is collected, or at exit.
    """
    threads.shutdown(cancel_futures=True)
    for worker in workers:
        worker.stop()


def _runs(process: subprocess.Popen[bytes]) -> bool:
    """Say whether a process still runs, without reaping it: until then no other process or group can get its id."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _read_line(process: subprocess.Popen[bytes], limit: float) -> bytes:
    """Read the next line of output; empty where the output ends or takes longer than `limit` seconds."""
    assert process.stdout is not None
    poll = select.poll()  # select() fails in a process of more than 1024 open files
    poll.register(process.stdout, select.POLLIN)
    return process.stdout.readline() if poll.poll(limit * 1000) else b""
