"""`python -m dsrl.report RUN [RUN ...] [out=FILE]` and `dsrl-report`: look at runs, in one HTML file.

python -m dsrl.report runs/mine                     a run, also one that goes on or was killed: runs/mine/report.html
python -m dsrl.report runs/a runs/b out=both.html   runs side by side; seeds of one configuration as their mean
python -m dsrl.report runs/objectives               all runs below a folder, as of a sweep
python -m dsrl.report runs/evaluation_1             an evaluation
python -m dsrl.report runs/mine --text              in the terminal
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dsrl.command import called_as, command, help_of
from dsrl.errors import ConfigError, DSRLError, print_error
from dsrl.reports.page import read_runs, write_report
from dsrl.reports.reading import folders_of
from dsrl.reports.text import print_report
from dsrl.runs.terminal import terminal
from dsrl.storage.disk_errors import UnwritableError


@command
def main(arguments: list[str] | None = None) -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2."""
    given = parser().parse_intermixed_args(arguments)
    try:
        report(given.runs, text=given.text)
    except DSRLError as error:
        sys.exit(print_error(error))


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog=called_as("dsrl.report"),
        description=help_of(__doc__, "dsrl.report"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, or one with run folders in it; out=FILE")
    made.add_argument("--text", action="store_true", help="print the report instead of writing a file")
    return made


def report(words: list[str], *, text: bool = False) -> None:
    """Do what the words ask for. Raises ConfigError for a folder without a run, or a file that cannot be written."""
    targets = [word.partition("=")[2] for word in words if word.startswith("out=")]
    given = [Path(word).expanduser() for word in words if not word.startswith("out=")]
    if len(targets) > 1 or not all(targets):
        raise ConfigError("out=FILE: give one file, or none for RUN/report.html")
    if not given:
        raise ConfigError("no run: give the run_dir of a run, as in `python -m dsrl.report runs/mine`")
    folders = folders_of(given)
    if text:
        print_report(read_runs(folders), terminal())
        return
    out = Path(targets[0]).expanduser() if targets else given[0] / "report.html"
    if out.is_dir():
        raise ConfigError(f"out={out}: is a folder; give a file in it, out={out / 'report.html'}")
    try:
        runs = write_report(folders, out)
    except UnwritableError as error:
        raise ConfigError(f"out={error}") from error
    notes = [f"  note: {run.name}: {note}" for run in runs for note in run.notes]
    print(*notes, f"{out}: {len(runs)} runs, {out.stat().st_size / 1e6:.1f} MB", sep="\n")


if __name__ == "__main__":
    main()
