"""Run a worker of an evaluation: the program of each process that answers questions on a device of its own.

It asks for a batch by ("free",) as soon as it can sample one, and gets a `Batch`, or None where there are no more. It
answers a batch by ("answered", number, lines). What fails is told by ("failed", whether the user's configuration is
wrong, message). It ends at once where the evaluation does, however that one ends.
"""

from __future__ import annotations

import importlib
import os
import queue
import sys
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from dsrl.data.encoding import PromptEncoder
from dsrl.errors import ConfigError, DSRLError
from dsrl.evaluation.answering import Answerer
from dsrl.evaluation.batches import Batch
from dsrl.evaluation.config import EvaluationConfig
from dsrl.types import Rollouts


def main(descriptor: int) -> None:
    """Answer the batches that come over the connection with that file descriptor.

    First come the configuration as plain values, and the modules that register its parts.
    """
    evaluation = _Evaluation(Connection(descriptor))
    try:
        resolved, modules = evaluation.receive()
        for module in modules:
            importlib.import_module(module)
        config = EvaluationConfig.of_resolved(resolved)
        with Answerer(config, PromptEncoder.of(config.model, config.data)) as answerer:

            def finish(batch: Batch, rollouts: Rollouts) -> None:
                evaluation.send("answered", batch.number, answerer.lines(batch, rollouts))

            answerer.sample_all(evaluation.batches(), finish)
    except Exception as error:
        evaluation.fail(error)


class _Evaluation:
    """The connection to the evaluation. A thread receives; this process's main one sends."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.receive = self._received.get
        threading.Thread(target=self._listen, name="evaluation", daemon=True).start()

    def batches(self) -> Iterator[Batch]:
        """Ask for batch after batch, until there are no more."""
        self.send("free")
        while (batch := self.receive()) is not None:
            yield batch
            self.send("free")

    def send(self, *message: Any) -> None:
        """Send a message."""
        self.connection.send(message)

    def fail(self, error: Exception) -> NoReturn:
        """Tell an error, and end."""
        expected = isinstance(error, DSRLError)
        if not expected:
            traceback.print_exception(error)
        sys.stderr.flush()
        self.send(
            "failed", isinstance(error, ConfigError), str(error) if expected else f"{type(error).__name__}: {error}"
        )
        os._exit(1)

    def _listen(self) -> None:
        """Receive messages, and end this process with the evaluation: an engine or verifiers that it started notice by
        themselves that it is gone.
        """
        try:
            while True:
                self._received.put(self.connection.recv())
        except (EOFError, OSError):
            os._exit(1)
