"""`python -m dsrl.claims [quick|full|map] [KEY=VALUE ...]` and `dsrl-claims`: the paper's four claims, measured.

python -m dsrl.claims                                     quick: the embedded additions, three seeds
python -m dsrl.claims full                                both embedded worlds, five seeds
python -m dsrl.claims map                                 where dsrl leads over grpo, cell by cell
python -m dsrl.claims full model=hf model.name=OWNER/NAME data=questions data.train=FILE data.val=FILE verifier=NAME
                                                          a model and questions of your own

The folder, claims/MODE unless out=FOLDER, holds ordinary run folders, claims.json and claims.html. The same command
goes on after an interruption. Keys of its own: worlds, iterations, short_iterations (of the runs in P(y) alone),
validate_every, k, learning_rates, bonuses, tuning_seeds, seeds, align_samples, jobs (runs at once: as many as there are
cores). All others are those of `python train.py`, and go to every run. docs/claims.md says what is measured, and what
came out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from dsrl.command import command, help_of
from dsrl.errors import ConfigError, DSRLError, print_error
from dsrl.runs.terminal import terminal
from dsrl.storage.folder_lock import FolderLock


@command
def main() -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2, Ctrl-C with 130."""
    try:
        run(sys.argv[1:], terminal())
    except KeyboardInterrupt:
        print("interrupted; the same command goes on")
        sys.exit(130)
    except DSRLError as error:
        sys.exit(print_error(error))


def run(arguments: Sequence[str], console: Console) -> None:
    """Do what the arguments ask for. Raises DSRLError."""
    if {"-h", "--help"} & {*arguments}:
        print(help_of(__doc__, "dsrl.claims"))
        return
    if options := [text for text in arguments if text.startswith("-")]:
        raise ConfigError(f"{options[0]}: there is --help; the rest are words of train.py, and a mode")
    from dsrl.replication.results import measure  # heavy imports only for what runs
    from dsrl.replication.settings import settings_of

    settings = settings_of(arguments)
    with FolderLock(settings.out, key="out"):
        measure(settings, arguments, console)


if __name__ == "__main__":
    main()
