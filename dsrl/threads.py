"""How many threads compute on a CPU, by the size of the work, and how they wait for each other.

Threads that wait by turning in a loop take the core that another process needs, and on a busy machine wait for a thread
that has none: what takes a minute takes ten.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

PER_THREAD = 250_000
"""Parameters for which one thread is worth its waiting: two for the embedded models, of half a million."""
CORES = "DSRL_CORES"
"""Variable by which a process that starts several says how many cores each may count on."""
OF_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user says how many threads there are."""
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user says how threads wait."""
SHORTLY = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
"""Wait some microseconds in a loop, then asleep: for GNU's OpenMP, which PyTorch's own builds have, and Intel's."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""What a container may use of its host's cores."""


def wait_asleep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads of PyTorch, and of processes started from here, wait asleep. It has an effect before torch is loaded.

    What a user has set stays.
    """
    if not any(name in environment for name in WAITING):
        environment.update(SHORTLY)


def cores() -> int:
    """Count the cores that this process may count on."""
    there = len(os.sched_getaffinity(0))
    try:
        quota, period = QUOTA.read_text().split()
        there = min(there, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no container's, or without a limit ("max")
        pass
    given = os.environ.get(CORES, "")
    return max(1, min(there, int(given))) if given.isdigit() else there


def threads_for(parameters: int, cores: int) -> int:
    """Choose the threads for a model of so many parameters: one for each `PER_THREAD`, as far as there are cores."""
    return max(1, min(cores, parameters // PER_THREAD))


def share_cores(processes: int, environment: MutableMapping[str, str]) -> None:
    """Give each of some processes that will be started with this environment its share of the cores.

    Where a user has set the number of threads, that is what each has.
    """
    if not chosen(environment):
        share = str(max(1, cores() // processes))
        environment.update({CORES: share, OF_USER[0]: share})


def chosen(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Tell whether a user has set the number of threads; a share of the cores is none."""
    return any(environment.get(name, environment.get(CORES)) != environment.get(CORES) for name in OF_USER)


class ComputeThreads:
    """Set the number of threads of this process for a model, and set it back.

        threads = ComputeThreads.of(parameters, processes=2)
        ...
        threads.restore()

    Args:
        before: threads before; None where nothing was set.
    """

    def __init__(self, before: int | None) -> None:
        self.before = before

    @classmethod
    def of(cls, parameters: int, processes: int = 1) -> ComputeThreads:
        """Set the threads for a model, unless a user has: by a variable, or by torch.set_num_threads.

        Args:
            parameters: of the model.
            processes: on this host that compute at the same time, and share its cores; of no account where a
                variable says what the share of each is.
        """
        import torch

        now = torch.get_num_threads()
        if chosen() or now not in _usual():
            return cls(None)
        share = cores() if os.environ.get(CORES) else cores() // processes
        torch.set_num_threads(min(now, threads_for(parameters, share)))
        return cls(now)

    def restore(self) -> None:
        """Set the threads back to what they were; once."""
        import torch

        if self.before is not None:
            torch.set_num_threads(self.before)
        self.before = None


def _usual() -> set[int]:
    """The numbers of threads that PyTorch has if nobody sets one: of cores, with or without their second threads, or
    of the share that a variable gives."""
    own = os.sched_getaffinity(0)
    siblings = {_siblings(core) for core in own}
    given = os.environ.get(CORES, "")
    return {len(own), len(siblings), *([int(given)] if given.isdigit() else [])}


def _siblings(core: int) -> str:
    try:
        return Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(core)
