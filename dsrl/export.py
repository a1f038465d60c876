"""`python -m dsrl.export CKPT OUT`: from a checkpoint to a folder that transformers and vLLM load."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dsrl.command import called_as, command, help_of
from dsrl.errors import DSRLError, print_error
from dsrl.runs.hf_folder import export


@command
def main(arguments: list[str] | None = None) -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2."""
    parser = argparse.ArgumentParser(prog=called_as("dsrl.export"), description=help_of(__doc__, "dsrl.export"))
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of a run, a file or a folder")
    parser.add_argument("out", type=Path, help="the folder to write; it must not exist")
    parser.add_argument("--adapter", action="store_true", help="of a run with model.lora: the adapter alone, for peft")
    given = parser.parse_args(arguments)
    try:
        export(given.checkpoint, given.out, adapter=given.adapter)
    except DSRLError as error:
        sys.exit(print_error(error))
    print(f"{given.out}: the policy of {given.checkpoint}")


if __name__ == "__main__":
    main()
