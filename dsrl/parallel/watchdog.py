"""End the run on every node when a rank dies, hangs or fails, with a message that names the rank."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import lightning as L
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from dsrl.parallel.launcher import end_processes
from dsrl.parallel.standstill import Place, Standstill, where


def collective_timeout(timeout: float) -> timedelta:
    """Give the time limit of collectives: longer than the watchdog's, in seconds, which has something to say first."""
    return timedelta(seconds=1.2 * timeout + 30)


class Watchdog(L.Callback):
    """Watch the ranks: each one counts up a sign of life, from a thread of its own, in a store that rank 0 holds.

    If the signs of a rank stop for `timeout` seconds, or a rank reports a failure, every process ends within `timeout`
    and some seconds; a stopped rank of the same host is killed. Each rank also says where it is. Ranks that do not come
    together for `timeout` seconds end, with a message that says where each was; so do all, if a collective fails. The
    time limit of collectives is longer (`collective_timeout`), since NCCL's ends the process without an exception.
    """

    def __init__(self, timeout: float, beat: float = 1.0) -> None:
        """`timeout` and `beat`, the time between two signs of life, are in seconds."""
        self.timeout, self.beat = timeout, beat
        self.standstill = Standstill(timeout)
        self.verdict: str | None = None  # what ended the run, once some rank knows
        self.over = threading.Event()
        self.saves = False  # what this rank does may take as long as a disk does
        self.store: TCPStore | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Open the store and start the threads. In a run of one process there is nothing to watch."""
        if trainer.world_size == 1 or self.store is not None:
            return
        self.trainer, self.rank = trainer, trainer.global_rank
        self.module: Any = pl_module  # what it does now is in its `clock.now`
        host, wait = os.environ["MASTER_ADDR"], timedelta(seconds=self.timeout)
        if self.rank == 0:
            self.store = TCPStore(host, 0, is_master=True, timeout=wait, wait_for_workers=False)
        port = trainer.strategy.broadcast(self.store.port if self.store else 0)
        self.store = self.store or TCPStore(host, port, is_master=False, timeout=wait, wait_for_workers=False)
        self.places: list[tuple[str, int]] = [("", 0)] * trainer.world_size
        dist.all_gather_object(self.places, (socket.gethostname(), os.getpid()))
        self.peers = range(1, trainer.world_size) if self.rank == 0 else [0]
        self.answered = time.monotonic()  # when the store last answered
        for work in (self._beat, self._guard):
            threading.Thread(target=work, name=f"watchdog{work.__name__}", daemon=True).start()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop watching: all is written, and from here on ranks end when they are done."""
        self.over.set()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Report the failure to the other ranks, or find out which rank's failure it follows from."""
        if self.store is None or self.over.is_set():
            return
        self.over.set()
        hangs = threading.Timer(8 * self.beat, self._end, [f"{self._who(0)} does not answer"])
        hangs.daemon = True
        hangs.start()
        try:
            if follows_from_another(exception):
                self.verdict = self._reason(exception)
            else:
                self._report(f"{self._who(self.rank)} failed: {exception}")
        except Exception:  # the store, and so rank 0
            self.verdict = f"{self._who(0)} is gone ({_first_line(exception)})"
        hangs.cancel()

    def _beat(self) -> None:
        """Show signs of life, and look for others': rank 0 for those of all, all others for those of rank 0."""
        assert self.store is not None
        seen = {peer: (0, time.monotonic()) for peer in self.peers}
        while not self.over.wait(self.beat):
            try:
                self.store.add(f"beat/{self.rank}", 1)
                stage = f"iteration {self.trainer.current_epoch}, {self.module.clock.now}"
                self.store.set(f"at/{self.rank}", "\n".join(Place.of_main_thread(stage)))
                failed = str(self.store.get("failed"), "utf-8") if self.store.check(["failed"]) else None
                for peer in self.peers:
                    beats, now = self.store.add(f"beat/{peer}", 0), time.monotonic()
                    if beats != seen[peer][0]:
                        seen[peer] = beats, now
                    elif now - seen[peer][1] > self.timeout:
                        failed = self._report(f"{self._who(peer)} has shown no sign of life for {self.timeout:g} s")
                        self._kill(peer)
                failed = failed or self._come_together()
            except Exception as error:
                failed = f"{self._who(0)} is gone ({_first_line(error)})"
            self.answered = time.monotonic()
            # unless a failed collective has ended this rank meanwhile
            if failed and not self.over.wait(5 * self.beat) and not self.saves:
                self._end(failed)

    def _come_together(self) -> str | None:
        """On rank 0, compare where the ranks are: report that they do not come together, or say that none gets on."""
        assert self.store is not None
        if self.rank != 0 or not all(self.store.check([f"at/{rank}"]) for rank in range(self.trainer.world_size)):
            return None
        places, now = self._places(), time.monotonic()
        if notice := self.standstill.notice(places, now):
            print(f"warning: {notice}", file=sys.stderr, flush=True)
        verdict = self.standstill.verdict(places, now)
        return self._report(verdict) if verdict else None

    def _places(self) -> list[Place]:
        assert self.store is not None
        found = self.store.multi_get([f"at/{rank}" for rank in range(self.trainer.world_size)])
        return [Place(*text.decode().split("\n")) for text in found]

    def _guard(self) -> None:
        """End this rank if the store hangs, since then rank 0 hangs."""
        while not self.over.wait(self.beat):
            if time.monotonic() - self.answered > self.timeout + 8 * self.beat:
                self._end(f"{self._who(0)} does not answer")

    def _end(self, message: str) -> None:
        self._kill(0)
        end_processes(message, getattr(self.trainer.strategy.launcher, "procs", ()))

    def _reason(self, exception: BaseException) -> str:
        """Find what a failed collective follows from: a reported failure, a silent rank, or a slow one."""
        assert self.store is not None
        others = [rank for rank in range(self.trainer.world_size) if rank != self.rank]
        before = {rank: self.store.add(f"beat/{rank}", 0) for rank in others}
        for _ in range(4):
            if self.store.check(["failed"]):
                return str(self.store.get("failed"), "utf-8")
            time.sleep(self.beat)
        if silent := [rank for rank in others if self.store.add(f"beat/{rank}", 0) == before[rank]]:
            for rank in silent:  # one that is stopped would stay behind: it hears of nothing
                self._kill(rank)
            return self._report(f"{self._who(silent[0])} is gone, or hangs ({_first_line(exception)})")
        return self._report(f"the ranks do not come together ({_first_line(exception)}). {where(self._places())}")

    def _report(self, message: str) -> str:
        """Make the message the run's verdict, unless there is one already; returns the verdict."""
        assert self.store is not None
        self.verdict = str(self.store.compare_set("failed", "", message), "utf-8")
        return self.verdict

    def _kill(self, rank: int) -> None:
        """Kill another rank that hangs, if it is on this host."""
        host, process = self.places[rank]
        if rank != self.rank and host == socket.gethostname():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _who(self, rank: int) -> str:
        host, process = self.places[rank]
        return f"rank {rank} ({host}, process {process})"


def follows_from_another(exception: BaseException) -> bool:
    """Tell whether this is the failure of a collective, which does not say what caused it."""
    text = str(exception).lower()
    return isinstance(exception, dist.DistError) or any(name in text for name in ("gloo", "nccl", "timed out", "peer"))


def _first_line(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first.rpartition("] ")[2][:120]  # gloo puts the place in its source before it
