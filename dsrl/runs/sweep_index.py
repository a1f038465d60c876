"""The index of a sweep: what each job was asked for, how far it is, and what came of it; as files and as a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from dsrl.storage.atomic import atomic

STATES = ("waiting", "running", "finished", "stopped", "failed")
"""What a job may be: `stopped` has ended before its last iteration, and resume=last goes on with it."""
COLOURS = {"finished": "green", "failed": "red", "stopped": "yellow"}


@dataclass(kw_only=True)
class Entry:
    """A job of a sweep in its index.

    Args:
        job: its number, from 0.
        folder: its run folder.
        overrides: the words of its command line that not all jobs have, by key.
        state: one of STATES.
        reason: why it failed; empty where it has not.
        iterations_done: how far it is.
        iterations: how far it goes; None before it has begun.
        reward: `reward/mean` of the last iteration.
        validation: by metric, `first`, `best` and `last`: avg@k and pass@k of each set.
        seconds: that it ran, over all sweeps in this folder.
    """

    job: int
    folder: str
    overrides: dict[str, str] = field(default_factory=dict)
    state: str = "waiting"
    reason: str = ""
    iterations_done: int = 0
    iterations: int | None = None
    reward: float | None = None
    validation: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0

    def look(self) -> None:
        """Read from the run folder how far the job is, and what came of it."""
        from dsrl.reports.curves import accuracy_parts  # what a single run does not need
        from dsrl.reports.reading import number_of, read_run, whole_of

        run = read_run(Path(self.folder), samples=False)
        self.iterations = whole_of(run.config.get("iterations"))
        self.iterations_done = run.iterations[-1]["iteration"] + 1 if run.iterations else 0
        self.reward = number_of(run.iterations[-1]["reward/mean"]) if run.iterations else None
        largest = max((accuracy_parts(key)[2] for line in run.validations for key in line), default=0)
        found: dict[str, list[float]] = {}
        for line in run.validations:
            for key, value in line.items():
                if accuracy_parts(key)[2] == largest > 0 and (number := number_of(value)) is not None:
                    found.setdefault(key, []).append(number)
        self.validation = {
            key: {"first": values[0], "best": max(values), "last": values[-1]} for key, values in found.items()
        }

    @property
    def finished(self) -> bool:
        """Whether the last iteration is done."""
        return self.iterations is not None and self.iterations_done >= self.iterations


class SweepIndex:
    """Keep index.json and index.csv in the folder of a sweep, anew whenever a job begins or ends.

    Args:
        folder: of the sweep.
        jobs: the command line of each job, in their order.
    """

    def __init__(self, folder: Path, jobs: Sequence[Sequence[str]]) -> None:
        self.folder = folder
        before = _seconds_before(folder)
        self.entries = [
            Entry(job=number, folder=str(folder / str(number)), overrides=own, seconds=before.get(number, 0.0))
            for number, own in enumerate(own_words(jobs))
        ]
        for entry in self.entries:
            if Path(entry.folder).is_dir():
                entry.look()
                entry.state = "finished" if entry.finished else "waiting"

    def begin(self, job: int) -> None:
        """Note that a job runs."""
        self.entries[job].state = "running"
        self.write()

    def end(self, job: int, *, reason: str | None, seconds: float) -> None:
        """Note that a job has ended, with the reason if it has failed."""
        entry = self.entries[job]
        entry.look()
        entry.seconds += seconds
        entry.state = "failed" if reason is not None else "finished" if entry.finished else "stopped"
        entry.reason = (reason or "").partition("\n")[0]
        self.write()

    def write(self) -> None:
        """Write both files. Raises UnwritableError."""
        with atomic(self.folder / "index.json") as partial:
            jobs = [asdict(entry) for entry in self.entries]
            partial.write_text(json.dumps({"jobs": jobs}, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        with atomic(self.folder / "index.csv") as partial:
            partial.write_text(self._csv(), encoding="utf-8")

    def table(self) -> Table:
        """Make the table that a sweep ends with: swept keys, state, validation before and after, time."""
        keys, metrics = self._keys(), self._metrics("avg")
        table = Table()
        for column in ("job", *map(escape, keys), "state", "iterations", "reward"):
            table.add_column(column, overflow="fold")
        for metric in metrics:
            table.add_column(escape(metric.removeprefix("val/")), overflow="fold")
        table.add_column("time")
        for entry in self.entries:
            colour = COLOURS.get(entry.state, "dim")
            table.add_row(
                str(entry.job),
                *(escape(entry.overrides.get(key, "")) for key in keys),
                f"[{colour}]{entry.state}[/]",
                f"{entry.iterations_done}/{entry.iterations}" if entry.iterations else "",
                "" if entry.reward is None else f"{entry.reward:.3f}",
                *(_before_and_after(entry.validation.get(metric)) for metric in metrics),
                str(timedelta(seconds=round(entry.seconds))) if entry.seconds else "",
            )
        return table

    def _keys(self) -> list[str]:
        return list(dict.fromkeys(key for entry in self.entries for key in entry.overrides))

    def _metrics(self, measure: str = "") -> list[str]:
        every = dict.fromkeys(key for entry in self.entries for key in entry.validation)
        return [key for key in every if key.rpartition("/")[2].startswith(measure)]

    def _csv(self) -> str:
        keys, metrics, moments = self._keys(), self._metrics(), ("first", "best", "last")
        columns = [f"{metric} {moment}" for metric in metrics for moment in moments]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        own = ("iterations_done", "iterations", "reward")
        writer.writerow(["job", *keys, "state", *own, *columns, "seconds", "folder", "reason"])
        for entry in self.entries:
            numbers = [entry.validation.get(metric, {}).get(moment) for metric in metrics for moment in moments]
            words = [entry.overrides.get(key) for key in keys]
            values = [getattr(entry, name) for name in own]
            ends = [round(entry.seconds, 1), entry.folder, entry.reason]
            writer.writerow([entry.job, *words, entry.state, *values, *numbers, *ends])
        return text.getvalue()


def own_words(jobs: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """Give the words of each command line that not all have, by key; all of them where there is one job alone."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [dict(_pair(word) for word in words if word not in common) for words in jobs]


def _pair(word: str) -> tuple[str, str]:
    key, _, value = word.replace("\\", "").partition("=")
    return key.lstrip("+"), value.strip("'")


def _seconds_before(folder: Path) -> dict[int, float]:
    """Read how long the jobs have run in earlier sweeps in this folder; nothing where that cannot be read."""
    try:
        written: Iterable[Mapping[str, Any]] = json.loads((folder / "index.json").read_text())["jobs"]
        return {int(entry["job"]): float(entry["seconds"]) for entry in written}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _before_and_after(values: Mapping[str, float] | None) -> str:
    return "" if values is None else f"{values['first']:.3f} → {values['last']:.3f}"
