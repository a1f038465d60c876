"""Commands as processes of their own, several at once; what was begun goes on, and what is done is left alone."""

from __future__ import annotations

import datetime
import os
import shlex
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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from dsrl.errors import ConfigError, DSRLError
from dsrl.processes import end_of_log, how_it_ended
from dsrl.storage.disk_errors import writing
from dsrl.threads import share_cores

COMMAND = "$ python -m "
"""What a log has before the module and the words of each start."""
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
        words: arguments that say what is done.
        places: further ones that say where. A job whose folder has moved is the same job.
        log: file of its command lines, and of what it prints.
        done: whether it needs not be run (again).
        going_on: words that are added where it was begun before.
        cost: about how long it takes, in any unit.
    """

    name: str
    module: str
    words: tuple[str, ...]
    places: tuple[str, ...] = ()
    log: Path
    done: Callable[[], bool]
    going_on: Callable[[], tuple[str, ...]] = field(default=lambda: ())
    cost: float = 1.0

    @property
    def line(self) -> tuple[str, ...]:
        """All arguments of a first start."""
        return (*self.words, *self.places)


def run_jobs(jobs: Sequence[Job], *, at_once: int, console: Console, title: str) -> None:
    """Run what is not done, `at_once` together, the longest first. Without any jobs nothing is shown.

    Each gets its share of the cores. A job that fails does not stop the others.

    Raises:
        ConfigError: something is there of some jobs that was made with other words; none has been started.
        DSRLError: some have failed; the message names them and quotes the end of the first one's log.
        KeyboardInterrupt: by Ctrl-C or SIGTERM, after all that were running have been told to stop, and have saved
            what they had.
    """
    if not jobs:
        return
    if others := list(filter(None, map(made_otherwise, jobs))):
        more = f", as {len(others) - 1} others were" if len(others) > 1 else ""
        raise ConfigError(f"{others[0]}{more}; give another out=FOLDER")
    waiting = sorted((job for job in jobs if not job.done()), key=lambda job: -job.cost)
    environment = {**os.environ, "COLUMNS": "120"}
    share_cores(at_once, environment)
    running: list[tuple[Job, subprocess.Popen[bytes]]] = []
    failed: list[tuple[Job, int]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _sigterm_interrupts(), Progress(*columns, Left(), console=console) as progress:
        before = len(jobs) - len(waiting)
        task = progress.add_task(title, total=len(jobs), completed=before, before=before)
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
                    if not console.is_terminal:  # a log has no bar
                        ended = int(progress.tasks[0].completed)
                        console.print(f"{title}: {ended} of {len(jobs)}, {job.name}", soft_wrap=True, highlight=False)
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


def made_otherwise(job: Job) -> str:
    """Say how the words with which a job was begun differ from those that it has now; empty where they do not, or
    where nothing was begun.
    """
    going_on = job.going_on()
    if not (going_on or job.done()) or not job.log.exists():
        return ""
    lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
    starts = [line for line in lines if line.startswith(f"{COMMAND}{job.module} ")]
    if not starts:
        return ""
    line = [word for word in shlex.split(starts[-1].removeprefix(COMMAND))[1:] if word not in going_on]
    then = line[: len(line) - len(job.places)]
    if sorted(then) == sorted(job.words):
        return ""
    there = " ".join(word for word in then if word not in job.words)
    here = " ".join(word for word in job.words if word not in then)
    return f"{job.name} was made with other words: {there or '-'} then, {here or '-'} now"


class Left(ProgressColumn):
    """The time that is left, if each job takes as long as those that have ended since the start."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Reckon it from the task's `before`: how many had ended then."""
        ended = task.completed - task.fields["before"]
        left = (task.total or 0) - task.completed
        if left and not ended:
            return Text("-:--:-- left", style="progress.remaining")
        seconds = (task.elapsed or 0) / max(1, ended) * left
        return Text(f"{datetime.timedelta(seconds=round(seconds))} left", style="progress.remaining")


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
    words = [job.module, *job.line, *job.going_on()]
    with writing(job.log), job.log.open("ab") as log:
        log.write(f"{COMMAND}{shlex.join(words)}\n".encode())
        log.flush()
        return subprocess.Popen(
            [sys.executable, "-m", *words],
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
