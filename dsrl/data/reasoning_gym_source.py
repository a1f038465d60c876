"""Procedural reasoning tasks with a scorer each (github.com/open-thought/reasoning-gym): `data=reasoning_gym`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsrl.data.source import DataSource, Row
from dsrl.draws import seed_of
from dsrl.errors import ConfigError, nearest
from dsrl.registry import register


@register("data", "reasoning_gym")
@dataclass(kw_only=True)
class ReasoningGymSource(DataSource):
    """Any mix of reasoning_gym's tasks.

    tasks: a name, a list of names, or names with their parameters, `{chain_sum: {max_terms: 3, weight: 2},
    leg_counting: {}}`: `weight` is the task's share (1), the others are its own (its configuration's fields).
    train_size: questions of all tasks together; val_size: of each task, a set of its own; none of them is trained on.
    problem_seed: which questions. A row's `extra_info` is {"task", "entry"}, what the task's own scorer needs.
    """

    tasks: Any = None
    train_size: int = 1000
    val_size: int = 64
    problem_seed: int = 0

    def train_rows(self) -> Sequence[Row]:
        """`train_size` questions, shared out by weight, less those that validation holds, too."""
        held_out = {row.question for rows in self.val_sets().values() for row in rows}
        total = sum(weight for weight, _ in self._tasks().values())
        rows: list[Row] = []
        for name, (weight, parameters) in self._tasks().items():
            drawn = self._rows(name, parameters, "train", max(1, round(self.train_size * weight / total)))
            own = [row for row in drawn if row.question not in held_out]
            if not own:
                raise ConfigError(f"reasoning_gym task {name}: validation holds all of its questions; lower val_size")
            rows += own
        return rows

    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """One set a task, named after it."""
        if not self.val_size:
            return {}
        return {
            name: list({row.question: row for row in self._rows(name, parameters, "val", self.val_size)}.values())
            for name, (_, parameters) in self._tasks().items()
        }

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
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0:
                problems.append(f"data.tasks.{name}.weight={weight}: must be a number above 0")
            try:
                self._dataset(name, parameters, "val", 1)
            except ConfigError as error:
                problems.append(str(error))
        return problems

    def _tasks(self) -> dict[str, tuple[float, dict[str, Any]]]:
        """The weight and the parameters of each task."""
        from reasoning_gym.factory import DATASETS

        given = self.tasks
        given = [given] if isinstance(given, str) else given
        tasks: dict[str, Any] = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given or ())
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
            found[name] = (dict(parameters or {}).get("weight", 1.0), dict(parameters or {}))
            found[name][1].pop("weight", None)
        return found

    def _dataset(self, name: str, parameters: Mapping[str, Any], split: str, size: int) -> Any:
        import reasoning_gym

        # Entry i is drawn with seed + i, so neighbouring seeds would share entries.
        seed = seed_of("reasoning_gym", split, self.problem_seed, name) % 2**31
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

    def _rows(self, name: str, parameters: Mapping[str, Any], split: str, size: int) -> Iterator[Row]:
        dataset = self._dataset(name, parameters, split, size)
        for index in range(size):
            entry = dataset[index]
            yield Row(
                question=entry["question"],
                answer="" if entry["answer"] is None else str(entry["answer"]),
                data_source=f"reasoning_gym/{name}",
                extra={"extra_info": {"task": name, "entry": entry}},
            )
