"""The commands by which a run goes on, as they can be typed."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from dsrl.config.command_line import text_of

PLAIN = re.compile(r"[\w./\-]+")
"""Paths that Hydra reads as they are."""


def program(words: Sequence[str]) -> str | None:
    """Name the program of which `words` are `sys.argv`, as it was called; None for a script that calls `fit`."""
    path = Path(words[0])
    if path.name == "train.py":
        return "python -m dsrl.train" if path.parent.name == "dsrl" else "python train.py"
    return path.name if path.name == "dsrl-train" else None


def command_to_go_on(folder: Path) -> str:
    """Write the command that goes on with the run in a folder; from Python, what `compose` is to be given."""
    called, text = program(sys.argv), str(folder)
    run_dir = f"run_dir={text if PLAIN.fullmatch(text) else text_of(text)}"
    if called is None:
        return f'fit(compose(["resume=last", {_quoted(run_dir)}]))'
    return f"{called} resume=last {shlex.quote(run_dir)}"


def command_to_export(checkpoint: Path, folder: Path) -> str:
    """Write the command that makes the policy of a run's checkpoint its `hf/`."""
    called = ["dsrl-export"] if program(sys.argv) == "dsrl-train" else ["python", "-m", "dsrl.export"]
    return shlex.join([*called, str(checkpoint), str(folder / "hf")])


def _quoted(text: str) -> str:
    """Write a string of Python, with double quotes where it can be."""
    return repr(text) if {'"', "\\"} & {*text} else f'"{text}"'
