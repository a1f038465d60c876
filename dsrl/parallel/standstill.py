"""Notice that ranks no longer come together, before a collective's time limit ends their processes without a word."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1]


class Place(NamedTuple):
    """Where a rank is: its stage, such as `iteration 3, verify`, and the line of dsrl that its main thread runs."""

    stage: str
    line: str

    def __str__(self) -> str:
        """Name both."""
        return f"{self.stage} ({self.line})" if self.line else self.stage

    @classmethod
    def of_main_thread(cls, stage: str) -> Place:
        """Find where this process is."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None and not frame.f_code.co_filename.startswith(str(PACKAGE)):
            frame = frame.f_back
        if frame is None:
            return cls(stage, "")
        return cls(stage, f"{Path(frame.f_code.co_filename).relative_to(PACKAGE.parent)}:{frame.f_lineno}")


class Standstill:
    """Watch the places of all ranks.

    Ranks in different stages wait for the one that is behind. So if no stage has changed for `timeout` seconds and they
    are not all the same, the ranks will not come together again. Where all are in one stage, one may be slow or may
    hang: nobody can tell, and it is only said, once for each standstill.
    """

    def __init__(self, timeout: float) -> None:
        """`timeout` is in seconds."""
        self.timeout = timeout
        self.stages: Sequence[str] = ()
        self.places: Sequence[Place] = ()
        self.since = self.same_since = 0.0
        self.told = False

    def verdict(self, places: Sequence[Place], now: float) -> str | None:
        """Say that the ranks do not come together; None as long as they may. `now` is in seconds."""
        stages = [place.stage for place in places]
        if stages != self.stages:
            self.stages, self.since = stages, now
        if now - self.since > self.timeout and len({*stages}) > 1:
            return f"the ranks have not come together for {self.timeout:g} s. {where(places)}"
        return None

    def notice(self, places: Sequence[Place], now: float) -> str | None:
        """Say once that no rank has moved for so long; None otherwise."""
        if list(places) != self.places:
            self.places, self.same_since, self.told = list(places), now, False
        if self.told or now - self.same_since <= self.timeout:
            return None
        self.told = True
        return f"no rank has got on for {self.timeout:g} s. {where(places)}"


def where(places: Sequence[Place]) -> str:
    """Write the place of each rank."""
    return "; ".join(f"rank {rank}: {place}" for rank, place in enumerate(places))
