"""Share the batches of an evaluation among several processes, each with a device of its own: the evaluation's side."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any

import torch

from dsrl.devices import device_type
from dsrl.errors import ConfigError, DSRLError
from dsrl.evaluation.answering import Line
from dsrl.evaluation.batches import Batch
from dsrl.evaluation.config import EvaluationConfig, devices_of_a_worker
from dsrl.processes import end_of_log, how_it_ended
from dsrl.registry import registered_parts

PATIENCE = 60.0
"""Seconds that a worker without further questions may take to close its sampler and verifier."""


def answer_on_devices(
    config: EvaluationConfig, batches: Sequence[Batch], record: Callable[[Batch, list[Line]], None]
) -> None:
    """Answer batches on `config.devices` devices. A worker that is free gets the next one.

    Args:
        config: of the evaluation; each worker builds its model, sampler and verifier from it.
        batches: what is asked.
        record: called with each batch and its lines as they come, in any order.

    Raises:
        DSRLError: a worker failed or ended, ConfigError where it found the configuration wrong. All of them have ended.
    """
    waiting, by_number = iter(batches), {batch.number: batch for batch in batches}
    with contextlib.ExitStack() as stack:
        workers = {}
        for number in range(min(config.devices, len(batches))):
            worker = stack.enter_context(Worker(config, number))
            workers[worker.connection] = worker
        while by_number:
            assert workers
            for connection in wait(list(workers)):
                worker = workers[connection]  # type: ignore[index]
                match worker.receive():
                    case ("free",):
                        worker.ask(next(waiting, None))
                    case ("answered", number, lines):
                        record(by_number.pop(number), lines)
                    case None:
                        del workers[worker.connection]


class Worker:
    """Run one process that answers batches; a context that ends it. It is waited for where it has no more to answer."""

    def __init__(self, config: EvaluationConfig, number: int) -> None:
        """Start the worker with this number, from 0."""
        self.name = f"worker {number} of devices={config.devices}"
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  (it has no name, and closes with this object)
        self.connection, theirs = Pipe()
        self.finishing = False
        cores, environment = share(config, number)
        program = f"from dsrl.evaluation.worker import main; main({theirs.fileno()})"
        # The cores first: libraries count them when they are imported.
        command = f"import os; os.sched_setaffinity(0, {cores}); {program}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", command],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # an interrupt from the keyboard is the evaluation's to handle
        )
        theirs.close()
        # The folder is this evaluation's own by now, and the only device that the worker sees is its own.
        resolved = {**config.resolved, "resume": str(config.run_dir), "devices": 1}
        modules = {part.__module__ for parts in registered_parts.values() for part in parts.values()}
        self._send((resolved, sorted(modules - {"__main__"})))

    def ask(self, batch: Batch | None) -> None:
        """Give it a batch, or tell it that there are no more."""
        self.finishing = batch is None
        try:
            self._send(batch)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise DSRLError(
                f"devices: a row of the data holds what cannot be sent to another process ({error}); leave devices at 1"
            ) from error

    def receive(self) -> tuple[Any, ...] | None:
        """Return its next message; None where it ended after its last. Raises DSRLError where it failed or is gone."""
        try:
            message: tuple[Any, ...] = self.connection.recv()
        except (EOFError, OSError) as error:
            if self.finishing and self.process.wait() == 0:
                return None
            raise DSRLError(self._obituary()) from error
        if message[0] == "failed":
            _, wrong, text = message
            raise ConfigError(text) if wrong else DSRLError(f"{self.name}: {text}")
        return message

    def _send(self, message: Any) -> None:
        try:
            self.connection.send(message)
        except OSError as error:
            raise DSRLError(self._obituary()) from error

    def _obituary(self) -> str:
        return f"{self.name} {how_it_ended(self.process.wait())}" + end_of_log(self.log)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self.finishing:
                self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.process.kill()
            self.process.wait()
            self.connection.close()
            self.log.close()


def share(config: EvaluationConfig, number: int) -> tuple[list[int], dict[str, str]]:
    """Choose the cores of a worker, and the variables of its environment: all cores and its own GPUs, or its share of
    the cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if device_type(config.accelerator) == "cpu":
        share = max(1, len(cores) // config.devices)
        first = number * share % len(cores)
        return cores[first : first + share], {}
    each = devices_of_a_worker(config.sampler)
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = given.split(",") if given else [str(device) for device in range(torch.cuda.device_count())]
    return cores, {"CUDA_VISIBLE_DEVICES": ",".join(visible[number * each : (number + 1) * each])}
