"""Make the terminal and the progress bar in which training and evaluation show what they do."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dsrl.command import width

PERIOD = 3600
"""Seconds of the past from which the time that is left is reckoned: of large models an iteration takes minutes."""


def terminal() -> Console:
    """Open the terminal. If the output goes to a file, a line has the columns that COLUMNS says, else 160, so that few
    are broken.
    """
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=width())


def progress_bar(console: Console) -> Progress:
    """Make a progress bar that disappears at the end. Each task has a field `status`, which is shown without markup."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
        console=console,
        transient=True,
        speed_estimate_period=PERIOD,
    )
