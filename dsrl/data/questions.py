"""Data source `questions`: rows from files, Hugging Face data sets, benchmarks and other sources, alone or mixed.

`data.train` and `data.val` are each an entry or a list of entries. An entry is

    train.parquet  rows.jsonl  rows.csv   a file (`dsrl.data.files`)
    openai/gsm8k   saved_folder           a data set of the hub, or a folder that `save_to_disk` wrote (`dsrl.data.hub`)
    aime24         math500                a benchmark (`dsrl.data.benchmarks`)
    arithmetic     retry                  a registered data source (others: reasoning_gym, a plugin's)

or a mapping, with parameters beside `path` or `name`:

    {path: openai/gsm8k, config: main, split: train, question: question, answer: answer, answer_after: "####"}
    {path: rows.jsonl, set: mine, weight: 3}
    {name: reasoning_gym, tasks: [chain_sum], weight: 1}
    {name: aime24, path: my_aime24.jsonl}
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl.data.benchmarks import BENCHMARKS, PROMPT
from dsrl.data.files import READABLE, SUFFIXES
from dsrl.data.hub import is_dataset
from dsrl.data.last_turn import LAST_TURNS
from dsrl.data.mixture import Mixture
from dsrl.data.record_set import COLUMNS, RecordSet
from dsrl.data.rows import BROKEN_ROWS, fold_repeats
from dsrl.data.source import DataSource, Row
from dsrl.errors import ConfigError, nearest
from dsrl.registry import build, names, register

KEYS = ("path", "set", "split", "config", "revision", *COLUMNS)
"""Parameters of an entry, beside its weight."""


@register("data", "questions")
@register("data", "parquet")
@dataclass(kw_only=True)
class Questions(DataSource):
    """Read rows from files, Hugging Face data sets, benchmarks and other sources, alone or mixed.

    An entry is a path, a name, or a mapping with parameters; see `dsrl.data.questions`.
    """

    train: Any = None
    """An entry or a list of entries to train on. Entries with a `weight` are mixed in that proportion."""
    val: Any = None
    """An entry or a list of entries to validate on; null: no validation."""
    broken_rows: str = "skip"
    """What happens to rows without a question or a ground truth. `skip` leaves them out, with a warning; `refuse` ends
    the run at the first."""
    question: str | None = None
    """The column that holds the question, in entries without columns of their own; null: `prompt` or `question`."""
    answer: str | None = None
    """The column that holds the ground truth, in such entries; null: `reward_model.ground_truth` or `answer`."""
    answer_after: str | None = None
    """A mark, such as `####`, after which the ground truth stands, in such entries."""
    last_turn: str = "auto"
    """What happens to a last turn by the assistant. `continue`: the model goes on with it. `auto`: so, too, but a row
    whose last turn gives the answer is a broken row. `drop`: it is left out. `refuse`: the row is a broken row."""
    benchmarks: str | None = None
    """A folder with copies of the benchmarks, to use instead of the hub: NAME.parquet, NAME.jsonl, NAME.csv or another
    file, or a data set in a folder NAME."""

    def __post_init__(self) -> None:
        """Raises ConfigError for an unknown `broken_rows` or `last_turn`."""
        for key, allowed in (("broken_rows", BROKEN_ROWS), ("last_turn", LAST_TURNS)):
            if getattr(self, key) not in allowed:
                raise ConfigError(f"data.{key}={getattr(self, key)}: allowed are {', '.join(allowed)}")

    def train_rows(self) -> Sequence[Row]:
        """Read all rows of the training entries, in order; a `Mixture` if the entries have weights."""
        entries = list(self._entries("train"))
        parts = [
            entry.train_rows()
            if isinstance(entry, DataSource)
            else entry.rows("train", self.broken_rows, self.last_turn)
            for _, entry, _ in entries
        ]
        weights = [weight for _, _, weight in entries if weight is not None]
        return Mixture(parts, weights) if weights else [row for part in parts for row in part]

    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """Read the validation sets: one for each file, data set or benchmark, named after it; those of data sources.

        A question that a file repeats for avg@k counts once (see `fold_repeats`).
        """
        sets: dict[str, Sequence[Row]] = {}
        for label, entry, _ in self._entries("val"):
            if isinstance(entry, DataSource):
                found = dict(entry.val_sets())
            else:
                rows = entry.rows("test", self.broken_rows, self.last_turn)
                found = {entry.set: fold_repeats(rows, entry.path)}
            if twice := sorted(set(found) & set(sets)):
                raise ConfigError(f"{label}: another entry of data.val brings a set of the name {twice[0]}")
            sets |= found
        return sets

    def val_names(self) -> list[str] | None:
        """Name the validation sets; None where an entry is a data source that does not know its own."""
        try:
            entries = [entry for _, entry, _ in self._entries("val")]
        except ConfigError:  # which `check` tells
            return None
        named = [entry.val_names() if isinstance(entry, DataSource) else [entry.set] for entry in entries]
        return None if None in named else [name for names in named for name in names or ()]

    def check(self) -> list[str]:
        """List entries that make no sense, and files that are not there."""
        problems = DataSource.check(self)
        for key in ("train", "val"):
            try:
                entries = list(self._entries(key))
            except ConfigError as error:
                problems.append(str(error))
                continue
            for label, entry, _ in entries:
                if isinstance(entry, DataSource):
                    problems += [f"{label}: {problem}" for problem in entry.check()]
                elif problem := entry.problem():
                    problems.append(f"{label}: {problem}")
            if key == "train":
                problems += _weight_problems([weight for _, _, weight in entries])
                continue
            if any(weight is not None for _, _, weight in entries):
                problems.append("data.val: weights are for data.train; every question of a validation set is asked")
            named = Counter(entry.set for _, entry, _ in entries if isinstance(entry, RecordSet))
            problems += [
                f"data.val: {count} entries are called {name}, which would be the name of each set; write "
                f"{{path: PATH, set: NAME}}"
                for name, count in named.items()
                if count > 1
            ]
        return problems

    def check_training(self) -> list[str]:
        """List the problem that there is nothing to train on."""
        if any(self._specs("train")):
            return []
        return ["data.train is not set: give a file, a folder or a hub name, data.train=PATH"]

    def _specs(self, key: str) -> list[Any]:
        given = getattr(self, key)
        return [] if given is None else given if isinstance(given, list) else [given]

    def _entries(self, key: str) -> Iterator[tuple[str, DataSource | RecordSet, float | None]]:
        """Yield each entry with its label for messages and its weight."""
        for spec in self._specs(key):
            if not isinstance(spec, Mapping):
                spec = {"name" if str(spec) in (*BENCHMARKS, *names("data")) else "path": str(spec)}
            label = f"data.{key}={spec.get('path', spec.get('name'))}"
            parameters = {str(name): value for name, value in spec.items() if name != "weight"}
            try:
                yield label, self._entry(parameters), spec.get("weight")
            except ConfigError as error:
                raise ConfigError(f"{label}: {error}") from error

    def _entry(self, parameters: dict[str, Any]) -> DataSource | RecordSet:
        name = parameters.get("name")
        if name is not None and name not in BENCHMARKS:
            source = build("data", parameters)
            assert isinstance(source, DataSource)
            return source
        for key, value in parameters.items():
            if key not in (*KEYS, "name"):
                raise ConfigError(f"an entry has no '{key}'; it has {', '.join(KEYS)}, weight.{nearest(key, KEYS)}")
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"{key}={value!r} must be text")
        if name is None and "path" not in parameters:
            raise ConfigError("an entry needs a path or a name: {path: PATH} or {name: NAME}")
        if name is None:
            own = {key for key in COLUMNS if parameters.get(key) is not None}
            columns = {} if own else {key: getattr(self, key) for key in COLUMNS}
            return RecordSet(**{**parameters, **columns})
        del parameters["name"]
        if "path" not in parameters and self.benchmarks is not None:
            parameters["path"] = str(_benchmark_copy(Path(self.benchmarks).expanduser(), name))
        if self.system_prompt is None:
            parameters["instruction"] = PROMPT
        return _benchmark(name, parameters)


def _benchmark(name: str, parameters: dict[str, Any]) -> RecordSet:
    """Make the entry of a benchmark, of the hub or of a copy."""
    if "path" in parameters:
        return RecordSet(**{"set": name, **parameters}, proposed=BENCHMARKS[name])
    return RecordSet(**{"set": name, **BENCHMARKS[name], **parameters})


def _benchmark_copy(folder: Path, name: str) -> Path:
    files = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    found = next((path for path in files if path.is_file()), folder / name)
    if not found.is_file() and not is_dataset(found):
        raise ConfigError(
            f"data.benchmarks={folder}: holds no file {name} that ends with {READABLE}, nor a data set in a folder "
            f"{name}"
        )
    return found


def _weight_problems(weights: Sequence[Any]) -> list[str]:
    given = [weight for weight in weights if weight is not None]
    wrong = [weight for weight in given if isinstance(weight, bool) or not isinstance(weight, int | float)]
    if wrong or any(not weight > 0 for weight in given) or not math.isfinite(sum(given)):
        return [f"data.train: weights must be numbers above 0 with a finite sum, not {', '.join(map(str, given))}"]
    if given and len(given) < len(weights):
        return ["data.train: some entries have a weight and some have none; give one to each, or to none"]
    return []
