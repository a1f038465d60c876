"""Pre-train a small model for a world: `python -m dsrl.worlds.pretrain WORLD OUT [--FIELD VALUE ...]`.

    python -m dsrl.worlds.pretrain retry OUT                                the embedded model of the world of guesses
    python -m dsrl.worlds.pretrain retry OUT --guesses 3 --restated 0.5     one of another such world

The same arguments give the same bits on one machine; no held-out question is ever used. OUT holds the model, its
tokenizer, the world that it is of (`world.json`), and a card with what was measured of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from dsrl.command import command
from dsrl.config.help import attribute_docs
from dsrl.errors import ConfigError, print_error
from dsrl.models.loading import EMBEDDED
from dsrl.worlds import WORLDS
from dsrl.worlds.admission import measure_admission
from dsrl.worlds.card import training_command, write_card
from dsrl.worlds.training import RECIPES, Recipe, Stage, pretrain
from dsrl.worlds.world_file import save_world

STAGE_OPTIONS = {
    "steps": "optimizer steps",
    "lr": "peak learning rate",
    "retry_rate": "what failed in the text is tried again with this probability",
}
"""What a stage of the training has, and what `--help` says of it."""


@command
def main(arguments: list[str] | None = None) -> None:
    """Train, measure, and save the model, its tokenizer, its world and its card."""
    given = parser().parse_args(arguments)
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True)
    try:
        kind = WORLDS[given.world]
        world = kind(**{field.name: getattr(given, field.name) for field in dataclasses.fields(kind)})
        recipe = Recipe(
            stages=stages_of(given.steps, given.lr, given.retry_rate),
            batch_size=given.batch_size,
            initializer_range=RECIPES[given.world].initializer_range,
            passes=RECIPES[given.world].passes,
        )
    except ConfigError as error:
        sys.exit(print_error(error))
    model, tokenizer = pretrain(world, recipe, given.seed)
    measured = measure_admission(model, tokenizer, world, problems=given.problems, seed=given.seed)
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    save_world(world, given.out)
    embedded = {path: name for name, path in EMBEDDED.items()}
    model_name = embedded.get(given.out.resolve(), str(given.out))
    command = "python -m dsrl.worlds.pretrain " + " ".join(sys.argv[1:] if arguments is None else arguments)
    (given.out / "README.md").write_text(write_card(model_name, world, given.world, recipe, command, model, measured))
    print(measured, "", f"Train it by: {training_command(model_name, world, given.world)}", sep="\n")


def stages_of(steps: Sequence[int], lr: Sequence[float], retry_rate: Sequence[float]) -> list[Stage]:
    """Make stages of what the command line gives. Raises ConfigError where a stage lacks a value."""
    if len({len(steps), len(lr), len(retry_rate)}) > 1:
        raise ConfigError(
            f"--steps has {len(steps)} values, --lr {len(lr)}, --retry-rate {len(retry_rate)}: "
            "give one of each for every stage"
        )
    return [Stage(steps=n, lr=rate, retry_rate=retry) for n, rate, retry in zip(steps, lr, retry_rate, strict=True)]


def parser() -> argparse.ArgumentParser:
    """Make the parser: a command for each world, with its fields and the settings of training as options."""
    made = argparse.ArgumentParser(
        prog="python -m dsrl.worlds.pretrain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    worlds = made.add_subparsers(dest="world", required=True, metavar="WORLD")
    for name, kind in WORLDS.items():
        command = worlds.add_parser(name, help=(kind.__doc__ or "").partition("\n")[0])
        command.add_argument("out", type=Path, help="folder to write")
        docs = attribute_docs(kind)
        for field in dataclasses.fields(kind):
            about = " ".join(docs[field.name].split())
            command.add_argument(
                f"--{field.name.replace('_', '-')}",
                type={"int": int, "float": float}[str(field.type)],
                default=field.default,
                help=f"{about} (%(default)s)",
            )
        recipe = RECIPES[name]
        for option, about in STAGE_OPTIONS.items():
            values = [getattr(stage, option) for stage in recipe.stages]
            command.add_argument(
                f"--{option.replace('_', '-')}",
                type=type(values[0]),
                nargs="+",
                default=values,
                help=f"{about}, a value for each stage ({' '.join(f'{value:g}' for value in values)})",
            )
        command.add_argument(
            "--batch-size", type=int, default=recipe.batch_size, help="lines of text a step (%(default)s)"
        )
        command.add_argument("--seed", type=int, default=0, help="of weights and text (%(default)s)")
        command.add_argument("--threads", type=int, default=1, help="the bits depend on it (%(default)s)")
        command.add_argument("--problems", type=int, default=1000, help="held-out problems to measure on (%(default)s)")
    return made


if __name__ == "__main__":
    main()
