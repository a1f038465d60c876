"""Errors that a user can act on, and how they are shown."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class DSRLError(Exception):
    """Ends a run for a reason that its user can act on; commands show its message without a traceback."""


class ConfigError(DSRLError, ValueError):
    """Refuses what was asked; its message says the key, its value, what is allowed, and what to do."""


def print_error(error: DSRLError) -> int:
    """Print an error's message on stderr and return the exit code for it, 2.

    Each line begins with `error: `, except those that are indented: they belong to the line before. Notes, such as in
    which iteration it was, are indented.
    """
    notes = [f"  {note}" for note in getattr(error, "__notes__", [])]
    for line in [*str(error).splitlines(), *notes]:
        print(line if line.startswith("  ") else f"error: {line}", file=sys.stderr)
    return 2


def nearest(word: str, candidates: Iterable[str]) -> str:
    """Write `" Did you mean 'grpo'?"` for the candidate most like `word`; an empty string where none is like it."""
    close = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def install_extra(name: str) -> str:
    """Write how an extra of dsrl is installed; it is on no package index, so from its clone."""
    return f"pip install -e '.[{name}]' in dsrl's clone"
