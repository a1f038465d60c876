"""Say how a process that was started here has ended, and what it wrote before."""

from __future__ import annotations

import signal
from typing import IO

LOG_LINES = 15
"""Lines of a log that an error message shows."""


def how_it_ended(code: int) -> str:
    """Describe the end of a process by its return code: negative of a signal, as `subprocess` has it."""
    if code >= 0:
        return f"ended with code {code}"
    how = f"was ended by {signal.Signals(-code).name}"
    return how + " (by the system, where memory ran out, or by someone)" if code == -signal.SIGKILL else how


def end_of_log(log: IO[bytes]) -> str:
    """Quote the last lines of a log, to be added to a message; empty where nothing was written."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()[-LOG_LINES:]
    return "".join(["; the end of its log:", *(f"\n    {line}" for line in lines)]) if lines else ""
