"""Read run folders as far as they can be read: what is missing or damaged becomes a note, never an error."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dsrl.errors import ConfigError
from dsrl.runs.lines import Line, as_today, is_validation

FILES = ("config.yaml", "metrics.jsonl", "samples.jsonl", "results.json")
"""A folder with one of these is a run or an evaluation."""

TOKEN_MEMORY = 2**26
"""Bytes of a file of samples from which on only some of its responses keep their tokens: they take most of it, and a
page has room for few."""
OF_TOKENS = ("tokens", "logprobs", "entropies", "changes", "pulls", "clipped")


@dataclass(kw_only=True)
class RunRecord:
    """What a folder of a run, or of an evaluation, holds."""

    folder: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    starts: list[Line] = field(default_factory=list)
    """What `starts.jsonl` says of each start: command line, versions, time."""
    iterations: list[Line] = field(default_factory=list)
    """Lines of metrics.jsonl by iteration, `reward/mean` in each."""
    validations: list[Line] = field(default_factory=list)
    """Lines of validations by `iterations_done`, the number of iterations before each."""
    samples: list[Line] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    """Of an evaluation: numbers of each set, as results.json has them."""
    warnings: list[Line] = field(default_factory=list)
    """`iteration`, `phase`, `monitor`, `figure`, `why` and `remedy` of each early warning."""
    notes: list[str] = field(default_factory=list)
    """What was missing or could not be read."""

    @property
    def is_evaluation(self) -> bool:
        """Whether it is the folder of `dsrl.evaluate`."""
        return bool(self.results) or (not self.iterations and any("sample" in line for line in self.samples))

    @property
    def finished(self) -> bool:
        """Whether the last iteration is done."""
        done, asked = len(self.iterations) and self.iterations[-1]["iteration"] + 1, self.config.get("iterations")
        return isinstance(asked, int) and done >= asked


def folders_of(given: list[Path]) -> list[Path]:
    """List the folders of runs among the arguments; one that holds runs below it, such as a sweep's, stands for those.

    Raises ConfigError for an argument that is no folder, or that holds no run.
    """
    found: list[Path] = []
    for path in given:
        if not path.is_dir():
            raise ConfigError(f"{path}: no such folder; give the run_dir of a run, of a sweep or of an evaluation")
        below = [path] if _holds_run(path) else sorted(_runs_below(path), key=_natural)
        if not below:
            raise ConfigError(f"{path}: holds no run (none of {', '.join(FILES)}, nor has a folder in it)")
        found += below
    return list(dict.fromkeys(found))


def read_run(folder: Path, name: str | None = None, *, samples: bool = True) -> RunRecord:
    """Read a folder, its samples where they are wanted; `name` is shown for it.

    Notes say what is missing or could not be read.
    """
    run = RunRecord(folder=folder, name=name or folder.resolve().name)
    run.config = _read_yaml(folder / "config.yaml", run.notes)
    run.starts = read_lines(folder / "starts.jsonl", run.notes, optional=True)
    run.results = _results(folder / "results.json", run.notes)
    evaluation = (folder / "results.json").exists() and not (folder / "metrics.jsonl").exists()
    lines = read_lines(folder / "metrics.jsonl", run.notes, optional=evaluation)
    run.iterations, run.validations = _split(lines, run.notes)
    if samples:
        run.samples = _fit_samples(read_lines(folder / "samples.jsonl", run.notes), run.notes)
    run.warnings = _warnings(read_lines(folder / "warnings.jsonl", run.notes, optional=True))
    return run


def read_lines(path: Path, notes: list[str], *, optional: bool = False) -> list[Line]:
    """Read the objects of a file of JSON lines; a line that is none is left out, and counted in a note."""
    found: list[Line] = []
    damaged: list[int] = []
    number, text = 0, b"\n"
    try:
        with path.open("rb") as file:
            stride = 1 + path.stat().st_size // TOKEN_MEMORY
            for number, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                line = _object(text)
                if line is None:
                    damaged.append(number)
                    continue
                if number % stride:
                    for key in OF_TOKENS:
                        line.pop(key, None)
                found.append(line)
    except OSError as error:
        if not (optional and isinstance(error, FileNotFoundError)):
            notes.append(f"{path.name}: {'missing' if isinstance(error, FileNotFoundError) else error.strerror}")
        return []
    if stride > 1 and any(key in line for line in found for key in OF_TOKENS):
        notes.append(f"{path.name}: large, so that every {stride}th response alone has its tokens here")
    if damaged == [number] and not text.endswith(b"\n"):
        notes.append(f"{path.name}: its last line is incomplete and left out (a kill, or it is being written)")
    elif damaged:
        notes.append(
            f"{path.name}: {len(damaged)} of {len(found) + len(damaged)} lines cannot be read and are left "
            f"out, the first is line {damaged[0]}"
        )
    return found


def number_of(value: Any) -> float | None:
    """Take a value for a finite number; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    return None


def whole_of(value: Any) -> int | None:
    """Take a value for a whole number; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """List the values of a configuration by their dotted keys."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _object(text: bytes) -> Line | None:
    try:
        line = json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _holds_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in FILES)


def _runs_below(folder: Path, depth: int = 3) -> Iterator[Path]:
    for path in folder.iterdir() if depth else ():
        if path.is_dir() and not path.is_symlink():
            if (path / "metrics.jsonl").is_file() or (path / "results.json").is_file():
                yield path
            else:
                yield from _runs_below(path, depth - 1)


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that sorts job 10 behind job 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _read_yaml(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        notes.append(f"{path.name}: missing")
        return {}
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        notes.append(f"{path.name}: not a configuration, left out")
        return {}
    return {str(key): value for key, value in config.items()}


def _results(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="replace"))
        sets = {**found["results"], **found.get("sources", {})}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        notes.append(f"{path.name}: not the results of an evaluation, left out")
        return {}
    return {str(name): numbers for name, numbers in sets.items() if isinstance(numbers, dict)}


def _split(lines: list[Line], notes: list[str]) -> tuple[list[Line], list[Line]]:
    """Iterations and validations, each in order and once; of an iteration that ran twice the later line."""
    iterations: dict[int, Line] = {}
    validations: dict[int, Line] = {}
    foreign = 0
    for line in lines:
        at = whole_of(line.get("iteration"))
        of_validation = is_validation(line)
        if at is not None and of_validation:
            line = as_today(line)
            at = whole_of(line["iterations_done"])
        if at is None or not (of_validation or "reward/mean" in line):
            foreign += 1
        else:
            (validations if of_validation else iterations)[at] = line
    if foreign:
        notes.append(f"metrics.jsonl: {foreign} lines are of no iteration and no validation, left out")
    return [iterations[at] for at in sorted(iterations)], [validations[at] for at in sorted(validations)]


def _fit_samples(lines: list[Line], notes: list[str]) -> list[Line]:
    found = [line for line in lines if isinstance(line.get("response"), str)]
    if len(found) < len(lines):
        notes.append(f"samples.jsonl: {len(lines) - len(found)} lines are no samples (without a response), left out")
    return found


def _warnings(lines: list[Line]) -> list[Line]:
    """What each line of warnings.jsonl says: when, which monitor, what it measured, why that matters, what to do."""
    return [
        {
            **{key: whole_of(line.get(key)) for key in ("iteration", "phase")},
            **{key: str(line.get(key) or "") for key in ("monitor", "figure", "why", "remedy")},
        }
        for line in lines
    ]
