"""`python -m dsrl.align` and `dsrl-align`: how far learning in P(y) and in P(y|x) agree, on any model.

    python -m dsrl.align                                               the embedded model on additions
    python -m dsrl.align model=RUN                                     a run, on the data that it trained on
    python -m dsrl.align model=RUN/checkpoints/X.ckpt                  a checkpoint
    python -m dsrl.align model=smollm2 data.train=FILE limit=8 k=4     a model and questions of one's own
    python -m dsrl.align json=true out=FILE                            one JSON object, printed and written

Other keys: levels, groups, known_share, batches, samples, objective, sampler, verifier, sampling.*, seed,
micro_batch_tokens, accelerator; `--cfg job` prints all, with --resolve references as their values.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import NoReturn

from omegaconf import OmegaConf
from rich.console import Console

from dsrl.errors import ConfigError, DSRLError, print_error
from dsrl.runs.terminal import terminal


def main() -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2, Ctrl-C with 130."""
    try:
        run(sys.argv[1:], terminal())
    except KeyboardInterrupt:
        sys.exit(130)
    except DSRLError as error:
        sys.exit(print_error(error))


def run(arguments: Sequence[str], console: Console) -> None:
    """Do what the arguments ask for. Raises DSRLError."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--cfg", choices=["job"])
    parser.add_argument("--resolve", action="store_true")
    given = parser.parse_intermixed_args(arguments)
    if given.help:
        print(__doc__)
        return
    from dsrl.evaluation.align_config import AlignConfig, compose_align  # heavy imports only for what runs

    if given.cfg:
        print(OmegaConf.to_yaml(compose_align(given.overrides), resolve=given.resolve))
        return
    config = AlignConfig.of(given.overrides)
    from dsrl.evaluation.alignment import align

    align(config, console)


class _Parser(ArgumentParser):
    """An argument parser whose errors are shown like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(f"{message}; there are --help, --cfg job and --resolve")


if __name__ == "__main__":
    main()
