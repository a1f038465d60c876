"""Procedural reasoning tasks with a scorer each (github.com/open-thought/reasoning-gym): `data=reasoning_gym`."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from dsrl.data.arithmetic import is_held_out
from dsrl.data.mixture import apportion
from dsrl.data.source import DataSource, Row
from dsrl.draws import seed_of
from dsrl.errors import ConfigError, nearest
from dsrl.registry import register

logger = logging.getLogger(__name__)

HELD_OUT_ONE_IN = 4
"""One question in this many belongs to validation, by its text alone: so no task, seed or size lets the two meet."""

PATIENCE = 100
"""After so many draws in a row without a question of use, a task has no more of them."""

CHUNK = 256
"""Questions of one of reasoning_gym's data sets, some of which make all of theirs at the start."""


@register("data", "reasoning_gym")
@dataclass(kw_only=True)
class ReasoningGymSource(DataSource):
    """Any mix of reasoning_gym's tasks.

    tasks: a name, a list of names, or names with their parameters, `{chain_sum: {max_terms: 3, weight: 2},
    leg_counting: {}}`: `weight` is the task's share (1), the others are its own (its configuration's fields).
    train_size: questions of all tasks together; val_size: different ones of each task, a set of its own, or as many as
    it has. The text of a question says whether it is validated on or trained on, never both (`is_held_out`).
    problem_seed: which questions. A row's `extra_info` is {"task", "entry"}, what the task's own scorer needs.
    """

    tasks: Any = None
    train_size: int = 1000
    val_size: int = 64
    problem_seed: int = 0

    def train_rows(self) -> Sequence[Row]:
        """`train_size` questions, shared out by weight."""
        tasks = self._tasks()
        sizes = apportion(self.train_size, [weight for weight, _ in tasks.values()])
        rows: list[Row] = []
        for (name, (weight, parameters)), size in zip(tasks.items(), sizes, strict=True):
            if not size:
                raise ConfigError(f"data.tasks.{name}.weight={weight:g}: less than one of train_size={self.train_size}")
            own = self._rows(name, parameters, "train", size)
            if len(own) < size:
                raise ConfigError(
                    f"reasoning_gym task {name}: all of its questions belong to validation; it has too few"
                )
            rows += own
        return rows

    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """One set a task, named after it."""
        sets = {}
        for name, (_, parameters) in self._tasks().items() if self.val_size else ():
            sets[name] = self._rows(name, parameters, "val", self.val_size)
            if not sets[name]:
                raise ConfigError(f"reasoning_gym task {name} has no question to validate on; data.val_size=0 does not")
            if len(sets[name]) < self.val_size:
                told = "reasoning_gym task %s has %d different questions to validate on, not data.val_size=%d"
                logger.warning(told, name, len(sets[name]), self.val_size)
        return sets

    def check(self) -> list[str]:
        """Unknown tasks and parameters, and sizes that make no sense."""
        problems = DataSource.check(self)
        for key, least in (("train_size", 1), ("val_size", 0)):
            if getattr(self, key) < least:
                problems.append(f"data.{key}={getattr(self, key)}: must be at least {least}")
        if importlib.util.find_spec("reasoning_gym") is None:
            return [*problems, "data=reasoning_gym needs its package: pip install 'dual-space-rl[reasoning-gym]'"]
        try:
            tasks = self._tasks()
        except ConfigError as error:
            return [*problems, str(error)]
        for name, (weight, parameters) in tasks.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
                problems.append(f"data.tasks.{name}.weight={weight}: must be a number above 0")
            try:
                self._dataset(name, parameters, "val", 0, size=1)
            except ConfigError as error:
                problems.append(str(error))
        return problems

    def _tasks(self) -> dict[str, tuple[float, dict[str, Any]]]:
        """The weight and the parameters of each task."""
        from reasoning_gym.factory import DATASETS

        given = self.tasks
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, Mapping | list | None):
            raise ConfigError(f"data.tasks={given}: must be a name, a list of names, or a mapping of names")
        tasks: dict[str, Any] = dict(given) if isinstance(given, Mapping) else dict.fromkeys(map(str, given or ()))
        known = sorted(name for name in DATASETS if name != "composite")  # that one is a mix, which this is
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
                    f"data.tasks.{name}.{min(reserved)}: data.problem_seed says which questions, data.train_size and "
                    "data.val_size how many, of all tasks"
                )
            found[name] = (dict(parameters or {}).get("weight", 1.0), dict(parameters or {}))
            found[name][1].pop("weight", None)
        return found

    def _dataset(self, name: str, parameters: Mapping[str, Any], split: str, chunk: int, size: int = CHUNK) -> Any:
        import reasoning_gym

        # Entry i is drawn with seed + i, so neighbouring seeds would share entries.
        seed = seed_of("reasoning_gym", split, self.problem_seed, name, chunk) % 2**31
        try:
            return reasoning_gym.create_dataset(name, size=size, seed=seed, **parameters)
        except TypeError as error:
            fields = list(reasoning_gym.factory.DATASETS[name][1].__dataclass_fields__)
            unknown = next((key for key in parameters if key not in fields), None)
            if unknown is None:
                raise ConfigError(f"data.tasks.{name}: {error}") from error
            raise ConfigError(
                f"data.tasks.{name}.{unknown}: no such parameter; there are "
                f"{', '.join(key for key in fields if key not in ('seed', 'size'))}.{nearest(unknown, fields)}"
            ) from error
        except (AssertionError, ValueError) as error:
            raise ConfigError(f"data.tasks.{name}={dict(parameters)}: {error}") from error

    def _rows(self, name: str, parameters: Mapping[str, Any], split: str, size: int) -> list[Row]:
        """`size` questions of the split, or as many as are found; those of validation differ from each other."""
        rows: list[Row] = []
        seen: set[str] = set()
        fruitless, drawn = 0, self._drawn(name, parameters, split)
        while len(rows) < size and fruitless < PATIENCE:
            row = next(drawn)
            assert isinstance(row.question, str)
            held_out = is_held_out(row.question, HELD_OUT_ONE_IN)
            if held_out == (split == "val") and row.question not in seen:
                rows.append(row)
                seen |= {row.question} if held_out else set()
                fruitless = 0
            else:
                fruitless += 1
        return rows

    def _drawn(self, name: str, parameters: Mapping[str, Any], split: str) -> Iterator[Row]:
        """Questions of both splits, without end."""
        for chunk in count():
            dataset = self._dataset(name, parameters, split, chunk)
            for index in range(CHUNK):
                entry = dataset[index]
                yield Row(
                    question=entry["question"],
                    answer="" if entry["answer"] is None else str(entry["answer"]),
                    data_source=f"reasoning_gym/{name}",
                    extra={"extra_info": {"task": name, "entry": entry}},
                )
