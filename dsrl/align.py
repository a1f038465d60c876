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

import os
import sys
from collections.abc import Sequence

from omegaconf import OmegaConf
from rich.console import Console

from dsrl.command import command, help_of
from dsrl.errors import print_error
from dsrl.registry.blame import blamed
from dsrl.runs.arguments import parse_arguments
from dsrl.runs.terminal import terminal


@command
def main() -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2, Ctrl-C with 130."""
    try:
        run(sys.argv[1:], terminal())
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        told = blamed(error)
        if told is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.exit(print_error(told))


def run(arguments: Sequence[str], console: Console) -> None:
    """Do what the arguments ask for. Raises DSRLError."""
    given = parse_arguments(arguments)
    if given.help:
        print(help_of(__doc__, "dsrl.align"))
        return
    from dsrl.evaluation.align_config import AlignConfig, compose_align  # heavy imports only for what runs

    if given.cfg:
        print(OmegaConf.to_yaml(compose_align(given.overrides), resolve=given.resolve))
        return
    config = AlignConfig.of(given.overrides)
    from dsrl.evaluation.alignment import align

    align(config, console)


if __name__ == "__main__":
    main()
