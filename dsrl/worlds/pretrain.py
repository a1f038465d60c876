"""Pre-train a small model for a world: `python -m dsrl.worlds.pretrain WORLD OUT [--FIELD VALUE ...]`.

    python -m dsrl.worlds.pretrain retry OUT                                the embedded model of the world of guesses
    python -m dsrl.worlds.pretrain retry OUT --guesses 3 --restated 0.5     one of another such world

The text is the world's; a part of it has no question in front, so the model knows P(y) as well as P(y|x):
`<bos>trace<eos>` beside `<bos>question trace<eos>`. No held-out question is ever used. The same arguments give the same
bits on one machine.

Training goes in stages, each with its own rate of retries. A model learns a skill from the text that has it, and a
habit from the text that comes last. Text with few retries alone teaches attempts that copy each other and check
nothing.

OUT holds the model, its tokenizer, the world that it is of (`world.json`) and a card.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import track
from transformers import BatchEncoding, LlamaForCausalLM, PreTrainedTokenizerFast

from dsrl.config.help import attribute_docs
from dsrl.errors import ConfigError, print_error
from dsrl.models.loading import EMBEDDED
from dsrl.registry import find
from dsrl.worlds import WORLDS, World
from dsrl.worlds.admission import Admission, measure_admission
from dsrl.worlds.small_model import build_model, build_tokenizer
from dsrl.worlds.world_file import save_world


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Say how a stretch of pre-training goes."""

    steps: int
    """Optimizer steps, a batch of fresh text each."""
    lr: float
    """The peak learning rate; it warms up over a twentieth of the steps, then decays to 0 (cosine)."""
    retry_rate: float
    """What failed in the text is tried again with this probability."""


STAGES = {
    "arithmetic": (Stage(steps=1500, lr=3e-3, retry_rate=0.3),),
    "retry": (Stage(steps=600, lr=2e-3, retry_rate=0.7), Stage(steps=150, lr=5e-4, retry_rate=0.15)),
}
"""How the models of each world are trained: those of `arithmetic` in one stage, those of `retry` first for the skill of
trying again, and then for the habit of seldom doing so."""


TRAINED_AS = {"arithmetic": "tiny", "retry": "retry"}
"""The embedded model of each world, whose settings fit other models of it, too."""

PASSES = {"arithmetic": 1, "retry": 4}
"""Passes of a batch: the answers of `arithmetic` have much the same length, those of `retry` one to six attempts."""

STAGE_OPTIONS = {
    "steps": "optimizer steps",
    "lr": "peak learning rate",
    "retry_rate": "what failed in the text is tried again with this probability",
}


def pretrain(
    world: World, stages: Sequence[Stage], *, seed: int = 0, batch_size: int = 64, passes: int = 1
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Train a fresh model on every token of fresh text.

    Args:
        world: writes the text.
        stages: one after the other, each with an optimizer of its own.
        seed: of weights and text.
        batch_size: lines of text in a batch.
        passes: of a batch, each over lines of like lengths, so that little is padded; the gradient is the same.
    """
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), seed, world.max_new_tokens).train()
    rng = random.Random(seed)
    for stage in stages:
        _train(model, tokenizer, world, stage, rng, batch_size, passes)
    return model.eval(), tokenizer


def _train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    stage: Stage,
    rng: random.Random,
    batch_size: int,
    passes: int,
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.lr, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = max(1, stage.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / stage.steps))
    )
    for _ in track(range(stage.steps), description=f"retries {stage.retry_rate:g}"):
        text = [world.write_line(rng, stage.retry_rate) for _ in range(batch_size)]
        text = sorted(text, key=len) if passes > 1 else text
        parts = [
            _encoded(tokenizer, text[batch_size * n // passes : batch_size * (n + 1) // passes]) for n in range(passes)
        ]
        predicted = [int(part["attention_mask"][:, 1:].sum()) for part in parts]
        for part, count in zip(parts, predicted, strict=True):
            (model(**part, use_cache=False).loss * (count / sum(predicted))).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


CARD = """\
# {title}

A Llama of {parameters:,} parameters (fp32, {layers} layers, hidden {hidden}, {heads} heads of dimension 32, tied
embeddings) with a tokenizer of one token a character. {about}

It is there so that `dsrl` runs, and shows what PreRL does, on a CPU, offline, in minutes. It knows nothing else.

Train it by

    {training}

Made by

    {command}

on the text of `dsrl.worlds.{name}` (`world.json` has its parameters), in stages:

| steps | peak learning rate | what failed is tried again |
|---|---|---|
{stages}

{no_question:.0%} of the text has no question in front. One question in ten is held out, never used.

Measured on {problems:,} held-out problems (`python -m dsrl.worlds.admission`): {verdict}

    {measured}
"""


def _encoded(tokenizer: PreTrainedTokenizerFast, text: list[str]) -> BatchEncoding:
    """Encode lines, padded on the right [lines, length]; every token that is no padding is a label."""
    batch = tokenizer(text, padding=True, padding_side="right", return_tensors="pt", return_token_type_ids=False)
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    return batch


def training_command(model: str, world: World, name: str) -> str:
    """Write the command that trains a model of a world on the world's questions; `model` is its name or its folder."""
    if model in EMBEDDED:
        return f"python train.py model={model}"
    asked = {field.name for field in dataclasses.fields(find("data", name))} & vars(world).keys()
    words = [f"model.name={model}", f"model.max_new_tokens={world.max_new_tokens}"]
    words += [f"data.{key}={value}" for key, value in vars(world).items() if key in asked]
    return " ".join([f"python train.py model={TRAINED_AS[name]}", *words])


def write_card(
    source: str,
    world: World,
    name: str,
    stages: Sequence[Stage],
    command: str,
    model: LlamaForCausalLM,
    measured: Admission,
) -> str:
    """Write the card of a model, whose name or folder is `source`: what it is, how it was made, what was measured."""
    return CARD.format(
        title=Path(source).name,
        parameters=model.num_parameters(),
        layers=model.config.num_hidden_layers,
        hidden=model.config.hidden_size,
        heads=model.config.num_attention_heads,
        about=world.about,
        training=training_command(source, world, name),
        command=command,
        name=name,
        stages="\n".join(f"| {stage.steps:,} | {stage.lr:g} | {stage.retry_rate:.0%} |" for stage in stages),
        no_question=world.no_question,
        problems=measured.base.right.count,
        verdict="admitted." if measured.admitted else "not admitted.",
        measured=str(measured).replace("\n", "\n    ").replace("    \n", "\n"),
    )


def main(arguments: list[str] | None = None) -> None:
    """Train, measure, and save the model, its tokenizer, its world and its card."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True)
    try:
        kind = WORLDS[given.world]
        world = kind(**{field.name: getattr(given, field.name) for field in dataclasses.fields(kind)})
        stages = stages_of(given.steps, given.lr, given.retry_rate)
    except ConfigError as error:
        sys.exit(print_error(error))
    model, tokenizer = pretrain(world, stages, seed=given.seed, batch_size=given.batch_size, passes=PASSES[given.world])
    measured = measure_admission(model, tokenizer, world, problems=given.problems, seed=given.seed)
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    save_world(world, given.out)
    embedded = {path: name for name, path in EMBEDDED.items()}
    model_name = embedded.get(given.out.resolve(), str(given.out))
    command = "python -m dsrl.worlds.pretrain " + " ".join(sys.argv[1:] if arguments is None else arguments)
    (given.out / "README.md").write_text(write_card(model_name, world, given.world, stages, command, model, measured))
    print(measured, "", f"Train it by: {training_command(model_name, world, given.world)}", sep="\n")


def stages_of(steps: Sequence[int], lr: Sequence[float], retry_rate: Sequence[float]) -> list[Stage]:
    """Make stages of what the command line gives. Raises ConfigError where a stage lacks a value."""
    if len({len(steps), len(lr), len(retry_rate)}) > 1:
        raise ConfigError(
            f"--steps has {len(steps)} values, --lr {len(lr)}, --retry-rate {len(retry_rate)}: "
            "give one of each for every stage"
        )
    return [Stage(steps=n, lr=rate, retry_rate=retry) for n, rate, retry in zip(steps, lr, retry_rate, strict=True)]


def _parser() -> argparse.ArgumentParser:
    """Make the parser: a command for each world, with its fields and the settings of training as options."""
    parser = argparse.ArgumentParser(
        prog="python -m dsrl.worlds.pretrain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    worlds = parser.add_subparsers(dest="world", required=True, metavar="WORLD")
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
        stages = STAGES[name]
        for option, about in STAGE_OPTIONS.items():
            values = [getattr(stage, option) for stage in stages]
            command.add_argument(
                f"--{option.replace('_', '-')}",
                type=type(values[0]),
                nargs="+",
                default=values,
                help=f"{about}, a value for each stage ({' '.join(f'{value:g}' for value in values)})",
            )
        command.add_argument("--batch-size", type=int, default=64, help="lines of text a step (%(default)s)")
        command.add_argument("--seed", type=int, default=0, help="of weights and text (%(default)s)")
        command.add_argument("--threads", type=int, default=1, help="the bits depend on it (%(default)s)")
        command.add_argument("--problems", type=int, default=1000, help="held-out problems to measure on (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
