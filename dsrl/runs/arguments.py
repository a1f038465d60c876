"""The command line of `dsrl.evaluate` and of `dsrl.align`: overrides, --help, --cfg and --resolve."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import NoReturn

from dsrl.errors import ConfigError


def parse_arguments(arguments: Sequence[str], shows: Sequence[str] = ("job",)) -> Namespace:
    """Read a command line: `overrides`, `help`, `cfg` (one of `shows`) and `resolve`. Raises ConfigError."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--cfg", choices=list(shows))
    parser.add_argument("--resolve", action="store_true")
    return parser.parse_intermixed_args(arguments)


class _Parser(ArgumentParser):
    """An argument parser whose errors are shown like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(f"{message}; there are --help, --cfg job and --resolve")
