"""Keep the samples of an evaluation on disk, one line each, and find where an interrupted one goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any

from dsrl.errors import ConfigError
from dsrl.storage.disk_errors import writing
from dsrl.storage.folder_lock import FolderLock

ASKED = {"set": str, "question": int, "sample": int, "prompt": str, "ground_truth": str}
"""Fields that say which answer a sample is, to which question, and their types."""

GIVEN: dict[str, type | tuple[type, ...]] = {
    "extracted_answer": (str, NoneType),
    "reward": (float, NoneType),
    "components": dict,
    "length": int,
    "finish_reason": str,
    "data_source": str,
}
"""Fields that results are made of."""

Asked = tuple[str, int, int, str, str]
"""The values of the fields ASKED."""


class SampleFile:
    """Write `samples.jsonl`, batch after batch in a fixed order; each is complete before the next is drawn.

    A batch that a kill cut short is removed and drawn again, with the same prompts in the batch, so that its samples
    are bit for bit those that were lost. A complete batch is never drawn again.
    """

    def __init__(self, path: Path) -> None:
        """Open the file and lock its folder. Raises ConfigError, which names it, if another process writes there."""
        self.path = path
        self._lock = FolderLock(path.parent)
        self._lock.acquire()
        try:
            with writing(path):
                self._file = path.open("ab", buffering=0)
        except BaseException:
            self._lock.release()
            raise

    @property
    def empty(self) -> bool:
        """Tell whether nothing is written yet."""
        return self.path.stat().st_size == 0

    def keep(self, batches: Iterable[Iterable[Asked]]) -> int:
        """Remove what follows the last complete batch, and return the number of complete ones.

        `batches` are what is asked now, sample by sample. Raises ConfigError if the file holds anything else.
        """
        ends = [0]
        with self.path.open("rb") as file:
            ends += accumulate(len(line) for line in file if line.endswith(b"\n"))
            file.seek(0)
            lines = _samples(file, self.path)
            complete = kept = read = 0
            for batch in batches:
                for asked in batch:
                    if (sample := next(lines, None)) is None:
                        self._file.truncate(ends[kept])
                        return complete
                    read += 1
                    if tuple(sample[name] for name in ASKED) != asked:
                        raise self._other_data(read)
                complete, kept = complete + 1, read
            if next(lines, None) is not None:
                raise self._other_data(read + 1)
        self._file.truncate(ends[kept])
        return complete

    def append(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Write a batch. Once this returns, a kill cannot undo it. Raises UnwritableError."""
        lines = "".join(json.dumps(sample, ensure_ascii=False, allow_nan=False) + "\n" for sample in samples)
        left = memoryview(lines.encode())
        with writing(self.path):
            while left:  # a disk that is nearly full takes a part
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())

    def _other_data(self, line: int) -> ConfigError:
        return ConfigError(
            f"{self.path}, line {line}: another question than is asked now: the data has changed since. Evaluate it "
            "into a new run_dir, or restore the data"
        )

    def __enter__(self) -> SampleFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.release()


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """Read the samples of an evaluation, in order. Raises ConfigError if there are none, or a line is damaged."""
    path = folder / "samples.jsonl"
    if not path.is_file():
        raise ConfigError(f"{folder}: no evaluation there (no samples.jsonl)")
    found: dict[tuple[str, int, int], int] = {}
    samples = []
    with path.open("rb") as file:
        for number, sample in enumerate(_samples(file, path), start=1):
            key = sample["set"], sample["question"], sample["sample"]
            if key in found:
                raise ConfigError(f"{path}, line {number}: the same sample as line {found[key]}; remove one of the two")
            found[key] = number
            samples.append(sample)
    if not samples:
        raise ConfigError(f"{path}: holds no samples yet")
    return samples


def _samples(lines: Iterable[bytes], path: Path) -> Iterator[dict[str, Any]]:
    """Yield the sample of each line. A last line without an end is still being written, and left out."""
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            return
        try:
            sample = json.loads(line)
        except ValueError as error:  # neither UTF-8 nor JSON
            raise ConfigError(f"{path}, line {number}: damaged, evaluate anew: {error}") from error
        for name, kind in {**ASKED, **GIVEN}.items():
            if not isinstance(sample, dict) or not isinstance(sample.get(name), kind):
                raise ConfigError(f"{path}, line {number}: not a sample of an evaluation, without a fitting '{name}'")
        yield sample
