"""What every command does alike: --version, modules of the current folder, a help that names it as it was called, a
reader who has gone.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from io import UnsupportedOperation
from pathlib import Path
from typing import ParamSpec

import __main__
from dsrl.version import __version__

P = ParamSpec("P")

WIDE = 160
"""Columns of a line that goes to a file or to another program, where COLUMNS does not say."""
READER_GONE = 128 + 13
"""The exit code of a program that SIGPIPE ends."""


def command(main: Callable[P, None]) -> Callable[P, None]:
    """Make `main` a command: it answers --version, finds modules of the user in the current folder, and ends quietly
    where its reader does, as in `--help | head`.
    """

    @functools.wraps(main)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        words = arguments[0] if arguments and isinstance(arguments[0], list) else sys.argv[1:]
        if "--version" in words:
            print(f"dsrl {__version__}")
            return
        _look_in_the_current_folder()
        try:
            try:
                main(*arguments, **named)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            with suppress(UnsupportedOperation):  # of a stream that is no file
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written at exit
            sys.exit(READER_GONE)

    return run


def _look_in_the_current_folder() -> None:
    """Let plugins and callbacks be imported from the current folder, however the command was called; `python -m` alone
    would do so. The folder comes last, so that no file in it takes the place of an installed package.
    """
    if not sys.flags.safe_path and os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())


def called_as(module: str) -> str:
    """Name a command as the user has called it: `python train.py`, `python -m MODULE` or `dsrl-NAME`.

    module: of the command, whose `python -m` it is where nothing else is known.
    """
    program = Path(sys.argv[0]).name
    if __main__.__spec__ is None and program.startswith("dsrl-"):
        return program
    if __main__.__spec__ is None and program == "train.py":
        return f"python {sys.argv[0]}"
    return f"python -m {module}"


def help_of(text: str | None, module: str) -> str:
    """Write the help of a command from its module's docstring: named as it was called, and its paragraphs, but no
    examples, broken at the width of the terminal.
    """
    name, fits = f"python -m {module}", min(width(), 120)
    parts = (text or "").strip("\n").split("\n\n")
    return "\n\n".join(
        part.replace(name, called_as(module))
        if part.startswith(("    ", name))  # examples
        else _filled(" ".join(part.replace(name, called_as(module)).split()), fits)
        for part in parts
    )


def broken(line: str, indent: int) -> str:
    """Break a line between words at the width of the terminal; what follows is indented."""
    if len(line) <= width():
        return line
    return _filled(line, width(), indent)


def width() -> int:
    """Tell how wide a line may be: COLUMNS, else the terminal's width, else WIDE."""
    return shutil.get_terminal_size((WIDE, 24)).columns


def _filled(text: str, columns: int, indent: int = 0) -> str:
    """Break a text between words; paths and commands, which people copy, stay whole."""
    return textwrap.fill(text, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
