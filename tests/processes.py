"""What /proc says of processes."""

from __future__ import annotations

import os
from pathlib import Path


def running(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for yet has."""
    return _fields(pid)[0] not in "ZX"


def in_group(leader: int) -> list[int]:
    """The processes of a group that have not ended, the first one first."""
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in pids if running(pid) and _fields(pid)[2] == str(leader)]


def seconds_of(pid: int) -> float:
    """The time that a process has spent on cores."""
    return sum(map(int, _fields(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def _fields(pid: int) -> list[str]:
    """What its stat has after its name: state, parent, group, ...; one that is gone is as a dead one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X", "0", "0"]
