"""Own a folder: one process at a time writes it, and others are told which one does."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import weakref
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from textwrap import shorten
from types import TracebackType
from typing import Any, NoReturn

from dsrl.errors import ConfigError
from dsrl.storage.disk_errors import writing

NAME = ".lock"
"""The file in the folder that is locked; while it is, it says by whom."""
COMMAND = 120
"""Characters of the owner's command line that are told."""
TAKEN = (errno.EWOULDBLOCK, errno.EACCES)
MOUNTS = Path("/proc/self/mounts")
"""What is mounted where, with which options."""
LOCAL_LOCKS = {"nolock", "localflock", "local_lock=all", "local_lock=flock"}
"""Options of a mount under which locks do not reach other hosts."""

_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


class FolderLock:
    """Hold a folder for as long as this process lives, or until `release`.

    The system's lock (flock) is what counts: it ends with the process, however that ends, and a file that a killed
    process has left holds nobody up. Where a file system has no such lock, or one that does not reach other hosts, the
    file's record decides: its process is looked for on this host, and one of another host is believed.
    """

    def __init__(self, folder: Path, key: str = "run_dir") -> None:
        """`key` names the folder's setting in messages. Nothing is locked yet."""
        self.folder, self.key = folder, key
        self._file: int | None = None

    @property
    def path(self) -> Path:
        """The file that is locked."""
        return self.folder / NAME

    @property
    def held(self) -> bool:
        """Whether this object holds the folder."""
        return self._file is not None

    def acquire(self) -> None:
        """Take the folder, which is made if it is not there; nothing where it is held already.

        Raises ConfigError, which names the owner, where another process holds it; UnwritableError where it cannot be
        written.
        """
        while self._file is None:
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                try:
                    file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                except FileNotFoundError:  # another process has removed the folder, empty again, since
                    continue
            try:
                self._lock(file)
                if _is_at(file, self.path):
                    with writing(self.path):
                        _write_record(file)
                    self._file = file
                    _held.add(self)
            finally:
                if self._file is None:
                    os.close(file)

    def release(self) -> None:
        """Let go of the folder, and remove it where nothing was written."""
        if self._file is None:
            return
        with suppress(OSError):  # gone, or of a disk that is: what was locked is let go of in any case
            if _is_at(self._file, self.path):
                self.path.unlink()
        os.close(self._file)
        self._file = None
        _held.discard(self)
        with suppress(OSError):
            self.folder.rmdir()

    def _lock(self, file: int) -> None:
        shared = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in TAKEN:
                self._refuse(_record(file))
            shared = False  # a file system without locks
        record = _record(file)
        if record and not (shared and _reaches_other_hosts(self.folder)) and _may_live(record):
            self._refuse(record, f"; if it is gone for certain, remove {self.path}")

    def _refuse(self, record: Mapping[str, Any], hint: str = "") -> NoReturn:
        owner = (
            f", {record['process']} on {record['host']}, started {record['started']} by `{record['command']}`"
            if record
            else ""
        )
        raise ConfigError(
            f"{self.key}={self.folder}: another process is writing it{owner}; wait until it ends, or choose another "
            f"{self.key}{hint}"
        )

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _close_in_child() -> None:
    """A process that is forked holds nothing: else it would hold the folder after its parent was killed."""
    for lock in list(_held):
        if lock._file is not None:
            os.close(lock._file)
            lock._file = None
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


def _is_at(file: int, path: Path) -> bool:
    """Whether the open file is still the one at the path."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _write_record(file: int) -> None:
    record = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shorten(" ".join(sys.argv), COMMAND),
        "born": _born(os.getpid()),
    }
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(record).encode(), 0)


def _record(file: int) -> dict[str, Any]:
    """What the file says of its owner; nothing where it is empty, or half written."""
    try:
        found = json.loads(os.pread(file, 2**16, 0))
        return found if {"process", "host", "started", "command"} <= found.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _may_live(record: Mapping[str, Any]) -> bool:
    """Whether the process of a record may still run: on this host it is looked for; of other hosts nobody knows."""
    if record["host"] != socket.gethostname():
        return True
    born = _born(int(record["process"]))
    return born is not None and record.get("born") in (None, born)


def _born(process: int) -> str | None:
    """When a process was started, in the kernel's own count, so that another one of its number is not taken for it;
    None where there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else _alive(process)
    except (OSError, IndexError):
        return None


def _alive(process: int) -> str | None:
    """Without /proc: whether there is a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def _reaches_other_hosts(folder: Path) -> bool:
    """Whether locks in the folder are seen by other hosts, as far as its mount says."""
    try:
        mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    except OSError:
        return True
    place = folder.resolve()
    above = [fields for fields in mounts if place.is_relative_to(fields[1].replace("\\040", " "))]
    options = max(above, key=lambda fields: len(fields[1]))[3].split(",") if above else []
    return not LOCAL_LOCKS & {*options}
