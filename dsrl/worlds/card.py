"""The card of a world's model: its README.md."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from transformers import LlamaForCausalLM

from dsrl.models.loading import EMBEDDED
from dsrl.registry import config_schema
from dsrl.worlds.admission import Admission
from dsrl.worlds.training import Recipe
from dsrl.worlds.world import World

TRAINED_AS = {"arithmetic": "tiny", "retry": "retry"}
"""The embedded model of each world, whose settings fit other models of it, too."""

CARD = """\
# {title}

A Llama of {parameters:,} parameters (fp32, {layers} layers, hidden {hidden}, {heads} heads of dimension 32, tied
embeddings) with a tokenizer of one token a character.

{about}

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


def training_command(model: str, world: World, name: str) -> str:
    """Write the command that trains a model of a world on the world's questions; `model` is its name or its folder."""
    return " ".join(["python train.py", *training_words(model, world, name)])


def training_words(model: str, world: World, name: str) -> list[str]:
    """List the words of `python train.py` that choose a model of a world, and the world's questions."""
    if model in EMBEDDED:
        return [f"model={model}"]
    asked = {field.name for field in dataclasses.fields(config_schema("data", name))} & vars(world).keys()
    words = [f"model={TRAINED_AS[name]}", f"model.name={model}", f"model.max_new_tokens={world.max_new_tokens}"]
    return [*words, *(f"data.{key}={value}" for key, value in vars(world).items() if key in asked)]


def write_card(
    source: str,
    world: World,
    name: str,
    recipe: Recipe,
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
        stages="\n".join(f"| {stage.steps:,} | {stage.lr:g} | {stage.retry_rate:.0%} |" for stage in recipe.stages),
        no_question=world.no_question,
        problems=measured.base.right.count,
        verdict="admitted." if measured.admitted else "not admitted.",
        measured=str(measured).replace("\n", "\n    ").replace("    \n", "\n"),
    )
