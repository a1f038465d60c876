"""All samples of an evaluation on disk, a line each, and where an interrupted one goes on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from dsrl.errors import ConfigError


class SampleFile:
    """`samples.jsonl`: batch after batch in a fixed order, each written whole before the next is drawn.

    A batch that a kill cut short is taken off on opening and drawn again, with the same prompts beside each other, so
    that its samples are bit for bit those that were lost. What is on disk is never drawn again.
    """

    def __init__(self, path: Path, sizes: Sequence[int]) -> None:
        """sizes: samples of each batch, in order. Raises ConfigError where another process writes the file."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ConfigError(f"{path}: another process is writing it") from error
        self.batches = self._cut(sizes)

    def append(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Write a batch; once this returns it survives a kill."""
        lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
        self._file.write(lines.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.batches += 1

    def _cut(self, sizes: Sequence[int]) -> int:
        """Take off what follows the last whole batch; the number of whole ones."""
        self._file.seek(0)
        ends = [0]
        for line in self._file:
            if line.endswith(b"\n"):
                ends.append(ends[-1] + len(line))
        whole = lines = 0
        for size in sizes:
            if lines + size >= len(ends):
                break
            whole, lines = whole + 1, lines + size
        self._file.truncate(ends[lines])
        return whole

    def __enter__(self) -> SampleFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """The samples of an evaluation, in order. Raises ConfigError where there are none, or a line is damaged."""
    path = folder / "samples.jsonl"
    if not path.is_file():
        raise ConfigError(f"{folder}: no evaluation there (no samples.jsonl)")
    samples = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            samples.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}, line {number}: not JSON: {error}") from error
    return samples
