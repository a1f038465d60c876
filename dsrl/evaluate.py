"""`python -m dsrl.evaluate` and `dsrl-evaluate`: avg@k, pass@j and maj@k of a model, with intervals.

    python -m dsrl.evaluate                                            the embedded model on held-out additions
    python -m dsrl.evaluate model=RUN k=32                             a run, on the data that it validated with
    python -m dsrl.evaluate model=RUN/checkpoints/X.ckpt               a checkpoint
    python -m dsrl.evaluate model=FOLDER data.val=[aime24,mine.jsonl]  a Hugging Face folder, or a name on the hub
    python -m dsrl.evaluate resume=EVALUATION                          go on where it was interrupted
    python -m dsrl.evaluate compare=[EVALUATION,EVALUATION]            the second less the first, paired by question

Other keys: k, limit, sampler, verifier, sampling.*, seed, run_dir, questions_per_batch, accelerator; --cfg prints all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from dsrl.config.compose import compose_evaluation
from dsrl.errors import ConfigError, DSRLError


def main() -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2."""
    try:
        run(sys.argv[1:], _console())
    except DSRLError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(2)


def run(arguments: Sequence[str], console: Console) -> None:
    """What the arguments ask for. Raises DSRLError."""
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    flags = [argument for argument in arguments if argument.startswith("-")]
    if unknown := [flag for flag in flags if flag not in ("-h", "--help", "--cfg")]:
        raise ConfigError(f"{unknown[0]}: no such option; there are --help and --cfg")
    if "--cfg" in flags:
        print(OmegaConf.to_yaml(compose_evaluation(overrides)))
    elif flags:
        print(__doc__)
    elif pair := [text for text in overrides if text.startswith("compare=")]:
        _compare(pair[0].removeprefix("compare="), overrides, console)
    else:
        from dsrl.evaluation import EvaluationConfig, evaluate  # heavy imports only for what runs

        evaluate(EvaluationConfig.of(overrides), console)


def _compare(given: str, overrides: Sequence[str], console: Console) -> None:
    folders = [Path(part.strip()).expanduser() for part in given.strip("[]").split(",") if part.strip()]
    if len(folders) != 2 or len(overrides) > 1:
        raise ConfigError(f"compare={given}: must be two evaluations, compare=[FIRST,SECOND], and nothing else")
    from dsrl.evaluation.comparison import compare, table_of

    found = compare(*folders)
    console.print(table_of(found, *folders))


def _console() -> Console:
    """The terminal; where output goes to a file, lines are not broken."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


if __name__ == "__main__":
    main()
