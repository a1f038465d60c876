"""Errors that speak to the user."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class DSRLError(Exception):
    """What ends a run for a reason that its user can act on; shown as one message, without a traceback."""


class ConfigError(DSRLError, ValueError):
    """What was asked cannot be done: the key, its value, what is allowed, and what to do."""


def print_error(error: DSRLError) -> int:
    """Say it on stderr; the exit code. Lines that are indented belong to the one before."""
    for line in str(error).splitlines():
        print(line if line.startswith("  ") else f"error: {line}", file=sys.stderr)
    return 2


def nearest(word: str, candidates: Iterable[str]) -> str:
    """`" Did you mean 'grpo'?"` for the candidate most like `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
