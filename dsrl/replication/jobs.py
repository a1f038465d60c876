"""Commands as processes of their own, several at once; what was begun goes on, and what is done is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dsrl.errors import DSRLError
from dsrl.processes import end_of_log, how_it_ended
from dsrl.storage.disk_errors import writing
from dsrl.threads import share_cores

POLL = 0.2
"""Seconds between two looks at what is running."""
PATIENCE = 120
"""Seconds that a run has to save itself when it is told to stop."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command.

    Args:
        name: in messages.
        module: of `python -m`.
        words: its arguments.
        log: file of what it prints.
        done: whether it needs not be run (again).
        going_on: words that are added where it was begun before.
        cost: about how long it takes, in any unit.
    """

    name: str
    module: str
    words: tuple[str, ...]
    log: Path
    done: Callable[[], bool]
    going_on: Callable[[], tuple[str, ...]] = field(default=lambda: ())
    cost: float = 1.0


def run_jobs(jobs: Sequence[Job], *, at_once: int, console: Console, title: str) -> None:
    """Run what is not done, `at_once` together, the longest first.

    Each gets its share of the cores. A job that fails does not stop the others.

    Raises:
        DSRLError: some have failed; the message names them and quotes the end of the first one's log.
        KeyboardInterrupt: by Ctrl-C or SIGTERM, after all that were running have been told to stop, and have saved
            what they had.
    """
    waiting = sorted((job for job in jobs if not job.done()), key=lambda job: -job.cost)
    environment = {**os.environ, "COLUMNS": "120"}
    share_cores(at_once, environment)
    running: list[tuple[Job, subprocess.Popen[bytes]]] = []
    failed: list[tuple[Job, int]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _sigterm_interrupts(), Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(title, total=len(jobs), completed=len(jobs) - len(waiting))
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    running.append((job, _start(job, environment)))
                time.sleep(POLL)
                for job, process in list(running):
                    code = process.poll()
                    if code is None:
                        continue
                    running.remove((job, process))
                    progress.advance(task)
                    if code or not job.done():
                        failed.append((job, code))
                        progress.console.print(f"{job.name} {how_it_ended(code)}: {job.log}", soft_wrap=True)
        finally:
            _stop([process for _, process in running])
    if failed:
        first, code = failed[0]
        with first.log.open("rb") as log:
            text = end_of_log(log)
        names = ", ".join(job.name for job, _ in failed)
        raise DSRLError(
            f"{len(failed)} of {len(jobs)} jobs failed: {names}; the same command goes on with them. {first.name} "
            f"{how_it_ended(code)}{text}"
        )


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C, where signals can be had: its default would leave the processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(job: Job, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with writing(job.log):
        job.log.parent.mkdir(parents=True, exist_ok=True)
    with writing(job.log), job.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", job.module, *job.words, *job.going_on()],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Tell processes to stop, and end those that do not."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
