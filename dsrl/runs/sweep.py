"""The jobs of a sweep: one that fails does not end it, and what came of each is in an index and told at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

import __main__
from dsrl.errors import DSRLError, print_error
from dsrl.processes import how_it_ended
from dsrl.runs.sweep_index import SweepIndex
from dsrl.storage.disk_errors import UnwritableError

FORWARDED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Signals that a job in a process of its own gets from this one."""


@dataclass(kw_only=True)
class Job:
    """A job of the sweep.

    Args:
        number: from 0.
        words: its command line.
        folder: its run folder.
        reason: why it failed; None where it has not.
    """

    number: int
    words: Sequence[str]
    folder: Path
    reason: str | None = None


@dataclass
class Sweep:
    """The jobs of a sweep that this process runs, one after the other."""

    jobs: list[Job] = field(default_factory=list)
    process: int = field(default_factory=os.getpid)
    lines: Sequence[Sequence[str]] = ()
    """The command line of every job, for the index; none where another process keeps it."""
    index: SweepIndex | None = None

    @contextmanager
    def job(self, number: int, words: Sequence[str], folder: Path) -> Iterator[None]:
        """Run a job within. What it fails with is printed and remembered, so that the next one can begin.

        A KeyboardInterrupt ends the sweep. Where a launcher of Hydra runs jobs in other processes, what they fail with
        is raised there, for Hydra to collect.
        """
        own = Job(number=number, words=words, folder=folder)
        self.jobs.append(own)
        began = time.perf_counter()
        self._note(lambda index: index.begin(number), folder)
        try:
            yield
        except DSRLError as error:
            own.reason = str(error)
            print_error(error)
            self._hand_on(error)
        except Exception as error:
            own.reason = "".join(traceback.format_exception_only(error)).strip()
            traceback.print_exc()
            self._hand_on(error)
        except SystemExit as end:
            if end.code:
                own.reason = f"ended with code {end.code}"
        finally:
            if wandb := sys.modules.get("wandb"):
                wandb.finish()  # else the next job would log to this one's run
            seconds = time.perf_counter() - began
            self._note(lambda index: index.end(number, reason=own.reason, seconds=seconds), folder)

    def failures(self) -> str | None:
        """List the jobs that have failed, a line for each with the words that not all have; None without any."""
        failed = [job for job in self.jobs if job.reason is not None]
        if not failed:
            return None
        common = set.intersection(*(set(job.words) for job in self.jobs)) if len(self.jobs) > 1 else set()
        lines = [f"{len(failed)} of {len(self.jobs)} jobs of the sweep failed:"]
        for job in failed:
            own = " ".join(word.replace("\\", "") for word in job.words if word not in common)
            reason = (job.reason or "").splitlines() or ["without a word"]
            lines.append(f"  job {job.number}{f' ({own})' if own else ''}, {job.folder}: {reason[0]}")
        return "\n".join(lines)

    def _note(self, change: Callable[[SweepIndex], None], folder: Path) -> None:
        """Change the index. Where it cannot be written, that is told, and the jobs go on."""
        if os.getpid() != self.process or not self.lines:
            return
        try:
            self.index = self.index or SweepIndex(folder.parent, self.lines)
            change(self.index)
        except UnwritableError as error:
            print_error(error)

    def _hand_on(self, error: Exception) -> None:
        if os.getpid() != self.process:
            raise error


def stop_sweep(received: signal.Signals) -> NoReturn:
    """End a sweep whose job was told to stop, and has saved what it had. Raises KeyboardInterrupt or SystemExit."""
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    print(f"stopped by {received.name}; the same sweep with resume=last goes on", file=sys.stderr, flush=True)
    raise SystemExit(128 + received)


def run_apart(words: Sequence[str]) -> signal.Signals | None:
    """Run a job in a process of its own: one of several ranks, the failure of which ends its process.

    Returns the signal that it was told to stop by, if any. Raises DSRLError where it fails.
    """
    received: list[signal.Signals] = []
    process = subprocess.Popen([sys.executable, *program_of_this(), *words], start_new_session=True)

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        return received[0]
    if code:
        raise DSRLError(f"its process {how_it_ended(code)}; what it said is above")
    return None


def program_of_this() -> list[str]:
    """Name the program of this process as Python is to be given it: a script, or -m and a module."""
    module = __main__.__spec__
    return [os.path.abspath(sys.argv[0])] if module is None else ["-m", module.name]
