"""Know which of a run's processes is the first, before Lightning has put them together."""

from __future__ import annotations

import os
from collections.abc import Mapping

OF_A_LAUNCHER = "RANK"
"""The rank over all nodes that torchrun gives each process; where it is there, it alone counts."""
OF_OTHERS = ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""Ranks that Lightning, SLURM and MPI give; the first process has 0 in all that are there."""


def is_first_process(ranks: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process is the first of a run, the one that writes. A run of one rank has no other.

    Args:
        ranks: of the run, over all nodes.
        environment: this process's variables.
    """
    if ranks == 1:
        return True
    if environment.get(OF_A_LAUNCHER):
        return environment[OF_A_LAUNCHER] == "0"
    return all(environment.get(name) in (None, "", "0") for name in OF_OTHERS)
