"""`python -m dsrl.evaluate` and `dsrl-evaluate`: avg@k, pass@j and maj@k of a model, with intervals.

    python -m dsrl.evaluate                                            the embedded model on held-out additions
    python -m dsrl.evaluate model=RUN k=32                             a run, on the data that it validated with
    python -m dsrl.evaluate model=RUN/checkpoints/X.ckpt               a checkpoint
    python -m dsrl.evaluate model=FOLDER data.val=[aime24,mine.jsonl]  a Hugging Face folder, or a name on the hub
    python -m dsrl.evaluate devices=8                                  on 8 GPUs, or an eighth of the cores each
    python -m dsrl.evaluate resume=EVALUATION                          go on where it was interrupted
    python -m dsrl.evaluate compare=[EVALUATION,EVALUATION]            the second less the first, paired by question;
                                                                       with run_dir=FOLDER as comparison.json, too
    python -m dsrl.evaluate model=RUN compare=MODEL                    RUN less MODEL (or less an evaluation), on the
                                                                       same questions

Other keys: k, limit, sampler, verifier, sampling.*, seed, run_dir, questions_per_batch, accelerator; `--cfg job` prints
all, with --resolve references as their values. `--cfg prompt` prints the first prompt of each set, as the model reads
it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from dsrl.command import command, help_of
from dsrl.errors import ConfigError, print_error
from dsrl.registry.blame import blamed
from dsrl.runs.arguments import parse_arguments
from dsrl.runs.terminal import terminal
from dsrl.storage.atomic import atomic


@command
def main() -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2, Ctrl-C with 130."""
    try:
        run(sys.argv[1:], terminal())
    except KeyboardInterrupt as interrupt:
        print(*interrupt.args or ["interrupted"], file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        told = blamed(error)
        if told is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.exit(print_error(told))


def run(arguments: Sequence[str], console: Console) -> None:
    """Do what the arguments ask for. Raises DSRLError, and KeyboardInterrupt with the command that goes on after it."""
    given = parse_arguments(arguments, shows=("job", "prompt"))
    if given.help:
        print(help_of(__doc__, "dsrl.evaluate"))
    elif given.cfg == "prompt":
        from dsrl.evaluation.config import EvaluationConfig
        from dsrl.evaluation.evaluation import first_prompts

        print(first_prompts(EvaluationConfig.of(given.overrides)))
    elif given.cfg:
        from dsrl.evaluation.config import compose_evaluation  # heavy imports only for what runs

        print(OmegaConf.to_yaml(compose_evaluation(given.overrides), resolve=given.resolve))
    elif len(_compared(given.overrides)) > 1:
        _compare(given.overrides, console)
    else:
        _evaluate(given.overrides, console)


def _evaluate(overrides: Sequence[str], console: Console) -> None:
    from dsrl.evaluation import EvaluationConfig, evaluate
    from dsrl.evaluation.other_model import config_of_other, is_evaluation

    own = [text for text in overrides if not text.startswith("compare=")]
    compared = "".join(_compared(overrides))
    other = Path(compared).expanduser()
    config = EvaluationConfig.of(own)
    beside = None if not compared or is_evaluation(other) else config_of_other(config, compared, own)
    for each in (config,) if beside is None else (config, beside):
        try:
            evaluate(each, console)
        except KeyboardInterrupt as error:
            begun = (config.run_dir / "config.yaml").exists()
            goes_on = " ".join([f"resume={config.run_dir}", *([f"compare={compared}"] if compared else [])])
            after = f"; {goes_on} goes on" if begun else " before the first samples"
            raise KeyboardInterrupt(f"interrupted{after}") from error
    if compared:
        _show_comparison(other if beside is None else beside.run_dir, config.run_dir, config.run_dir, console)


def _compare(overrides: Sequence[str], console: Console) -> None:
    given = _compared(overrides)
    targets = [text.partition("=")[2] for text in overrides if text.startswith("run_dir=")]
    from dsrl.config.checks import folder_problem

    if len(given) != 2 or len(targets) > 1 or len(overrides) > 1 + len(targets):
        raise ConfigError(
            f"compare=[{','.join(given)}]: must be two evaluations, compare=[FIRST,SECOND], and nothing else but "
            "run_dir=FOLDER; or one evaluation or model, compare=OTHER, which is compared with what is evaluated"
        )
    if problem := next(filter(None, map(folder_problem, targets)), None):
        raise ConfigError(problem)
    first, second = (Path(part).expanduser() for part in given)
    _show_comparison(first, second, Path(targets[0]).expanduser() if targets else None, console)


def _compared(overrides: Sequence[str]) -> list[str]:
    """What the command line asks to compare. Raises ConfigError where it says so twice, or names nothing."""
    given = [text.partition("=")[2] for text in overrides if text.startswith("compare=")]
    if len(given) > 1:
        raise ConfigError(f"compare is given {len(given)} times: {', '.join(given)}; give it once")
    parts = [part.strip() for text in given for part in text.strip("[]").split(",") if part.strip()]
    if given and not parts:
        raise ConfigError(
            f"compare={given[0]}: give an evaluation or a model, or two evaluations, compare=[FIRST,SECOND]"
        )
    return parts


def _show_comparison(first: Path, second: Path, target: Path | None, console: Console) -> None:
    """Print how two evaluations compare, and write it to comparison.json in the target folder."""
    from dsrl.evaluation.comparison import (
        compare,
        comparison_table,
        comparison_values,
        thought_ratio_table,
        thoughts_of,
    )

    found = compare(first, second)
    console.print(comparison_table(found, first, second))
    if table := thought_ratio_table(found, first, second):
        console.print(table)
    ways = [thoughts_of(folder) for folder in (first, second)]
    if ways[0] != ways[1]:
        console.print(f"thoughts are not compared: they are {ways[0]} in {first}, {ways[1]} in {second}", markup=False)
    if target is not None:
        written = {"first": str(first), "second": str(second), "results": comparison_values(found)}
        with atomic(target / "comparison.json") as partial:
            partial.write_text(json.dumps(written, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


class _CallableModule(ModuleType):
    """This module: `from dsrl import evaluate` gives it, and not the function of that name, once it is imported."""

    def __call__(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        """Call `dsrl.evaluation.evaluate`."""
        from dsrl.evaluation import evaluate

        return evaluate(*arguments, **named)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    main()
