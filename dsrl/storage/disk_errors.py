"""Say in one sentence why something could not be written: the path and the system's reason."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from dsrl.errors import DSRLError

OF_CONNECTIONS = (ConnectionError, TimeoutError, InterruptedError, ChildProcessError)
"""Kinds of OSError that say nothing of files."""
OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EFBIG}
"""Reasons that lie with the disk, whatever was written."""
IN_TEXT = re.compile(r"os error (\d+)|\[errno (\d+)\]", re.IGNORECASE)
"""How libraries that have lost the OSError quote its number: safetensors, pyarrow."""


class UnwritableError(DSRLError):
    """A file or folder that cannot be written: no room, no permission, gone, or a name that is too long."""

    @classmethod
    def of(cls, path: Path | str, cause: OSError) -> UnwritableError:
        """Name the path, the reason, and the file elsewhere that the system names."""
        reason = os.strerror(cause.errno) if cause.errno else str(cause)
        named = cause.filename if isinstance(cause.filename, str) else ""
        elsewhere = named and not Path(named).absolute().is_relative_to(Path(path).absolute().parent)
        return cls(f"{path}: cannot be written: {f'{named}: ' if elsewhere else ''}{reason}")


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn what fails for the disk's sake into an UnwritableError that names `path`; all else is raised as it is."""
    try:
        yield
    except DSRLError:
        raise
    except Exception as error:
        cause = system_error_in(error)
        if cause is None:
            raise
        raise UnwritableError.of(path, cause) from error


def system_error_in(error: BaseException) -> OSError | None:
    """Find the OSError that an error is, follows from, or quotes; None without one.

    PyTorch's writer of archives raises a RuntimeError of its own while it handles that of a full disk.
    """
    seen: set[int] = set()
    following: list[BaseException | None] = [error]
    while following:
        own = following.pop(0)
        if own is None or id(own) in seen:
            continue
        seen.add(id(own))
        if isinstance(own, OSError) and own.errno is not None:
            return None if isinstance(own, OF_CONNECTIONS) else own
        if quoted := IN_TEXT.search(str(own)):
            number = int(quoted[1] or quoted[2])
            return OSError(number, os.strerror(number))
        following += [own.__cause__, own.__context__]
    return None


def is_of_disk(cause: OSError, folder: Path) -> bool:
    """Tell whether an OSError lies with the disk, or with a file in `folder`."""
    within = isinstance(cause.filename, str) and Path(cause.filename).absolute().is_relative_to(folder.absolute())
    return cause.errno in OF_DISKS or within


def refuse_unwritable(folder: Path) -> None:
    """Raise UnwritableError where a folder cannot be made, or nothing can be written to it. Leaves nothing behind."""
    made = [place for place in (folder, *folder.parents) if not os.path.exists(place)]
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder) as file:
                file.write(b" ")
    finally:
        for place in made:
            with suppress(OSError):  # never made, or another process has begun to write there
                place.rmdir()
