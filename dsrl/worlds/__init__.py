"""Worlds: rules for questions and for text about them, small models made from that text, and what admits them.

    world.py         what every world has (`World`)
    arithmetic.py    additions; not to slip is what pays, reconsidering hardly
    retry.py         guess, check, retry; reconsidering is what makes an answer right
    held_out.py      which questions are held out
    small_model.py   a Llama of half a million parameters, and its tokenizer
    pretrain.py      `python -m dsrl.worlds.pretrain`: a model of a world, in minutes
    admission.py     `python -m dsrl.worlds.admission`: what must hold of a world and its model before any RL

The questions are data sources of the same names (`dsrl.data`); the models that come with dsrl are in `dsrl/models`.
"""

from dsrl.worlds.arithmetic import ArithmeticWorld
from dsrl.worlds.held_out import is_held_out
from dsrl.worlds.retry import RetryWorld
from dsrl.worlds.world import World

WORLDS: dict[str, type[World]] = {"arithmetic": ArithmeticWorld, "retry": RetryWorld}
"""Every world, by its name."""

__all__ = ["WORLDS", "ArithmeticWorld", "RetryWorld", "World", "is_held_out"]
