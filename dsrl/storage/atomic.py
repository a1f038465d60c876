"""Write a file or a folder so that, whenever the process ends, its path holds the old content or the new one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dsrl.storage.disk_errors import writing


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or a folder to; on leaving, move that to `path`.

    What `path` held before is replaced. After an error nothing is moved, and what was written is deleted. Raises
    UnwritableError, which names `path` and the reason, where the system does not let it be written.

        with atomic(folder / "results.json") as partial:
            partial.write_text(text)
    """
    partial = partial_path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(partial)
        try:
            yield partial
            move_into_place(partial, path)
        finally:
            with suppress(OSError):  # what failed before is what is told
                remove(partial)


def partial_path(path: Path) -> Path:
    """Name the place where `path` is written until it is complete; the same one on every rank."""
    return path.with_name(f".{path.name}.partial")


def move_into_place(partial: Path, path: Path) -> None:
    """Move a complete file or folder to `path`, in place of whatever is there."""
    if path.is_dir() or partial.is_dir():  # a rename replaces a file by a file alone
        remove(path)
    partial.replace(path)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
