"""Data source `reasoning_gym`: procedural tasks with a scorer each (github.com/open-thought/reasoning-gym)."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.data.mixture import apportion
from dsrl.data.source import DataSource, Row
from dsrl.errors import ConfigError, install_extra, nearest
from dsrl.registry import register
from dsrl.seeding import derive_seed

logger = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("reasoning_gym_entries.py")


@register("data", "reasoning_gym")
@dataclass(kw_only=True)
class ReasoningGymSource(DataSource):
    """Ask questions of any mix of reasoning_gym's tasks.

    A hash of a question's text says whether it is trained on or validated on, so it is never both. A row's
    `extra["extra_info"]` holds `task` and `entry`, which the task's own scorer needs.
    """

    tasks: Any = None
    """A name, a list of names, or names with parameters: `{chain_sum: {max_terms: 3, weight: 2}, leg_counting: {}}`.
    `weight` is the task's share (1); the other parameters are the task's own."""
    train_size: int = 1000
    """Questions to train on, of all tasks together."""
    val_size: int = 64
    """Different questions of each task to validate on, or as many as it has; each task is a validation set."""
    problem_seed: int = 0
    """Which questions are drawn."""

    def train_rows(self) -> Sequence[Row]:
        """Draw `train_size` questions, shared out between the tasks by weight."""
        tasks = self._tasks()
        sizes = dict(zip(tasks, apportion(self.train_size, [weight for weight, _ in tasks.values()]), strict=True))
        for name, (weight, _) in tasks.items():
            if not sizes[name]:
                raise ConfigError(f"data.tasks.{name}.weight={weight:g}: less than one of train_size={self.train_size}")
        found = self._rows("train", sizes)
        for name, rows in found.items():
            if len(rows) < sizes[name]:
                raise ConfigError(
                    f"reasoning_gym task {name}: all of its questions belong to validation; it has too few"
                )
        return [row for rows in found.values() for row in rows]

    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """Draw a set of questions for each task, named after it."""
        found = self._rows("val", dict.fromkeys(self._tasks(), self.val_size)) if self.val_size else {}
        for name, rows in found.items():
            if not rows:
                raise ConfigError(
                    f"reasoning_gym task {name} has no question to validate on; set data.val_size=0 to train without "
                    "validation"
                )
            if len(rows) < self.val_size:
                told = "reasoning_gym task %s has %d different questions to validate on, not data.val_size=%d"
                logger.warning(told, name, len(rows), self.val_size)
        return found

    def val_names(self) -> list[str] | None:
        """Name the sets, which are the tasks."""
        try:
            return [*self._tasks()] if self.val_size else []
        except ConfigError:  # which `check` tells
            return None

    def check(self) -> list[str]:
        """List unknown tasks and parameters, and sizes that make no sense."""
        problems = DataSource.check(self)
        for key, least in (("train_size", 1), ("val_size", 0)):
            if getattr(self, key) < least:
                problems.append(f"data.{key}={getattr(self, key)}: must be at least {least}")
        if importlib.util.find_spec("reasoning_gym") is None:
            return [*problems, f"data=reasoning_gym needs its package: {install_extra('reasoning-gym')}"]
        try:
            tasks = self._tasks()
        except ConfigError as error:
            return [*problems, str(error)]
        for name, (weight, parameters) in tasks.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
                problems.append(f"data.tasks.{name}.weight={weight}: must be a number above 0")
            problems += _refused(name, parameters)
        return problems

    def _tasks(self) -> dict[str, tuple[float, dict[str, Any]]]:
        """Read the weight and the parameters of each task."""
        from reasoning_gym.factory import DATASETS

        given = self.tasks
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, Mapping | list | None):
            raise ConfigError(f"data.tasks={given}: must be a name, a list of names, or a mapping of names")
        tasks: dict[str, Any] = dict(given) if isinstance(given, Mapping) else dict.fromkeys(map(str, given or ()))
        known = sorted(name for name in DATASETS if name != "composite")  # a mix of tasks, as this source is itself
        if not tasks:
            raise ConfigError(f"data.tasks is not set: choose some of {', '.join(known)}")
        found = {}
        for name, parameters in tasks.items():
            if name not in known:
                hint = nearest(str(name), known) or f" There are {', '.join(known)}."
                raise ConfigError(f"data.tasks: reasoning_gym has no task '{name}'.{hint}")
            if not isinstance(parameters, Mapping | None):
                raise ConfigError(f"data.tasks.{name}={parameters}: must be a mapping of parameters, or empty")
            if reserved := {"seed", "size"} & set(parameters or {}):
                raise ConfigError(
                    f"data.tasks.{name}.{min(reserved)}: not a parameter of a task; data.problem_seed says which "
                    "questions are drawn, data.train_size and data.val_size how many"
                )
            found[name] = (dict(parameters or {}).get("weight", 1.0), dict(parameters or {}))
            found[name][1].pop("weight", None)
        return found

    def _rows(self, split: str, sizes: Mapping[str, int]) -> dict[str, list[Row]]:
        """Draw `sizes` questions of each task, or as many as it has on that side of the split."""
        requests = [
            (
                name,
                parameters,
                derive_seed("reasoning_gym", split, self.problem_seed, name),
                sizes[name],
                split == "val",
            )
            for name, (_, parameters) in self._tasks().items()
        ]
        return {
            name: [
                Row(
                    question=entry["question"],
                    ground_truth="" if entry["answer"] is None else str(entry["answer"]),
                    data_source=f"reasoning_gym/{name}",
                    extra={"extra_info": {"task": name, "entry": entry}},
                )
                for entry in entries
            ]
            for (name, *_), entries in zip(requests, draw_in_process(requests), strict=True)
        }


def draw_in_process(requests: Sequence[tuple[Any, ...]]) -> list[list[dict[str, Any]]]:
    """Run reasoning_gym_entries.py for several requests, and return the entries of each; the same on every rank."""
    process = subprocess.run(
        [sys.executable, "-P", str(PROGRAM)],
        input=pickle.dumps(requests),
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    if process.returncode != 0:
        reason = process.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ConfigError(
            f"reasoning_gym could not draw questions of {', '.join(name for name, *_ in requests)}: {reason}"
        )
    found: list[list[dict[str, Any]]] = pickle.loads(process.stdout)
    return found


def _refused(name: str, parameters: Mapping[str, Any]) -> Iterator[str]:
    """Ask the task whether it takes these parameters, and yield the problem if it does not."""
    import reasoning_gym

    try:
        reasoning_gym.create_dataset(name, size=1, seed=0, **parameters)
    except TypeError as error:
        fields = list(reasoning_gym.factory.DATASETS[name][1].__dataclass_fields__)
        unknown = next((key for key in parameters if key not in fields), None)
        if unknown is None:
            yield f"data.tasks.{name}: {error}"
        else:
            yield (
                f"data.tasks.{name}.{unknown}: no such parameter; there are "
                f"{', '.join(key for key in fields if key not in ('seed', 'size'))}.{nearest(unknown, fields)}"
            )
    except (AssertionError, ValueError) as error:
        yield f"data.tasks.{name}={dict(parameters)}: {error}"
