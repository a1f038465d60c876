"""Start a node's other processes, and end all of them when one ends badly."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch.distributed as dist
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from dsrl.threads import share_cores

GRACE_SECONDS = 15.0
"""How long a process has to end by itself, with its own message, after another one has failed."""


class Launcher(_SubprocessScriptLauncher):
    """Launch as Lightning does, and watch the children: say which one failed, and end the others."""

    saves = False
    """Whether this process saves the run after a child has failed, and so is not to be ended."""

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start the node's other processes, unless a launcher such as torchrun did, and run `function` in this one.

        Afterwards this process is alone again, so that the next job of a sweep can do the same.
        """
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if self.cluster_environment.creates_processes_externally:
            return function(*args, **kwargs)
        before = dict(os.environ)
        share_cores(self.num_processes, os.environ)
        self._call_children_scripts()
        threading.Thread(target=_observe, args=(self,), name="child-processes", daemon=True).start()
        result = function(*args, **kwargs)
        for process in self.procs:
            process.wait()
        dist.destroy_process_group()
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
        return result


def _observe(launcher: Launcher) -> None:
    """Wait for the children. If one ends with an error and this process does not, end this process and the others."""
    processes: Sequence[subprocess.Popen[Any]] = launcher.procs
    while any(code is None for code in (process.poll() for process in processes)):
        if failed := [rank for rank, process in enumerate(processes, start=1) if process.poll()]:
            time.sleep(GRACE_SECONDS)
            while launcher.saves:
                time.sleep(0.5)
            codes = ", ".join(f"local rank {rank} with code {processes[rank - 1].returncode}" for rank in failed)
            end_processes(f"a process of this node ended: {codes}", processes)
        time.sleep(0.5)


def end_processes(message: str, processes: Sequence[subprocess.Popen[Any]] = ()) -> None:
    """Print an error, and end this process and its children at once, whatever they wait for."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    for process in processes:
        process.kill()
    os._exit(1)
