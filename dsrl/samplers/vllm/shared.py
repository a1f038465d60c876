"""Share a tensor-parallel engine between several ranks, each with its own prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch import Tensor

from dsrl.errors import DSRLError
from dsrl.parallel.collectives import ranks_by_host
from dsrl.samplers.vllm.process import Deadline, EngineProcess
from dsrl.samplers.vllm.weights import Delivery


def ranks_that_share(size: int) -> list[list[int]]:
    """Group the ranks that share engines of `size` devices; no groups if every rank has an engine of its own.

    Raises DSRLError if the ranks of a host do not come out even.
    """
    hosts = ranks_by_host() if size > 1 else []
    if all(len(ranks) == 1 for ranks in hosts):
        return []
    for ranks in hosts:
        if len(ranks) % size:
            raise DSRLError(
                f"sampler.tensor_parallel_size={size}: {len(ranks)} ranks of a host cannot share engines {size} by "
                f"{size}; give a divisor of {len(ranks)}"
            )
    return [ranks[first : first + size] for ranks in hosts for first in range(0, len(ranks), size)]


class SharedEngine:
    """Run one engine for several ranks, on the devices of all of them; used like an `EngineProcess`.

    The first of these ranks starts the engine and sends it the requests of all. Every method but `close` is a
    collective of these ranks. What fails on the first of them raises DSRLError on each.
    """

    def __init__(self, groups: list[list[int]], start: Callable[[], EngineProcess]) -> None:
        """Start the engines. A collective of all ranks of the run.

        `groups` are the ranks that share an engine, for every engine of the run; `start` starts one.
        """
        for ranks in groups:  # torch wants every rank to take part in making every group
            group = dist.new_group(ranks, backend="gloo", timeout=timedelta(days=7))  # the watchdog ends what hangs
            if dist.get_rank() in ranks:
                self.ranks, self.group = ranks, group
        self.process: EngineProcess | None = None
        self._on_first(lambda: setattr(self, "process", start()))

    def call(self, method: str, *arguments: Any, deadline: Deadline | None = None) -> Any:
        """Call a method of the engine, once all ranks ask for it: each has made room on its GPU then.

        Every rank gets what it returns.
        """
        dist.barrier(self.group)
        return self._on_first(lambda: self._own.call(method, *arguments, deadline=deadline))

    def generate(self, version: int, prompts: list[Any], seeds: list[int], settings: dict[str, Any]) -> list[Any]:
        """Draw responses to this rank's prompts; see `Engine.generate`. The settings must be those of all ranks."""
        asked: list[Any] = [None] * len(self.ranks)
        dist.gather_object((prompts, seeds), asked if self._is_first else None, dst=self.ranks[0], group=self.group)
        answers: list[list[Any]] = []

        def ask_for_all() -> None:
            all_prompts, all_seeds = ([each for request in asked for each in request[part]] for part in (0, 1))
            found = iter(self._own.generate(version, all_prompts, all_seeds, settings))
            answers.extend([next(found) for _ in own] for own, _ in asked)

        self._on_first(ask_for_all)
        mine: list[Any] = [None]
        dist.scatter_object_list(mine, answers if self._is_first else None, src=self.ranks[0], group=self.group)
        return list(mine[0])

    def load(self, named_tensors: Iterable[tuple[str, Tensor]], deadline: Deadline) -> Delivery:
        """Send all weights from the first rank; see `EngineProcess.load`. Other ranks only help to gather them."""
        for _ in () if self._is_first else named_tensors:
            pass
        delivery: Delivery = self._on_first(lambda: self._own.load(named_tensors, deadline))
        return delivery

    def close(self) -> None:
        """End the engine. It may be called twice, and without the other ranks."""
        if self.process is not None:
            self.process.close()

    @property
    def _is_first(self) -> bool:
        return dist.get_rank() == self.ranks[0]

    @property
    def _own(self) -> EngineProcess:
        assert self.process is not None
        return self.process

    def _on_first(self, act: Callable[[], Any]) -> Any:
        """Call `act` on the first rank. Every rank gets what it returns, or raises the error that it raised."""
        outcome: list[Any] = [None]
        if self._is_first:
            try:
                outcome = [(act(), None)]
            except DSRLError as error:
                outcome = [(None, str(error))]
        dist.broadcast_object_list(outcome, src=self.ranks[0], group=self.group)
        result, failure = outcome[0]
        if failure is not None:
            raise DSRLError(failure)
        return result
