"""`--help`: every name, every key, and what each key is for."""

import dataclasses
import typing

import pytest

from dsrl.config.help import attribute_docs, help_text
from dsrl.config.schema import TrainSchema
from dsrl.config.settled import Settled
from dsrl.evaluation.schema import AlignSchema, EvaluationSchema

ROOTS = (TrainSchema, EvaluationSchema, AlignSchema)
SPECS = ("objective", "data", "sampler", "verifier", "phase2", "phase3", "phase4", "phase5")


def sections(root):
    for kind in typing.get_type_hints(root).values():
        if isinstance(kind, type) and issubclass(kind, Settled):
            yield kind
            yield from sections(kind)


@pytest.mark.parametrize("kind", dict.fromkeys([*ROOTS, *sections(TrainSchema)]))
def test_every_key_has_a_docstring_of_one_line(kind):
    docs, types = attribute_docs(kind), typing.get_type_hints(kind)
    own = [field.name for field in dataclasses.fields(kind) if not dataclasses.is_dataclass(types[field.name])]
    for name in own if kind not in ROOTS else [name for name in own if name not in SPECS]:
        assert name in docs, f"{kind.__name__}.{name}"
        assert docs[name][0].isupper() and docs[name].endswith(".") and "\n" not in docs[name], docs[name]


class Base:
    one: int = 1
    """First."""
    two: int = 2


class Derived(Base):
    one: int = 3
    three: int = 4
    """Third."""


def test_docstrings_of_bases_are_found():
    assert attribute_docs(Derived) == {"one": "First.", "three": "Third."}


def test_help_shows_the_values_of_the_command_line():
    lines = help_text(["objective=dapo", "+phase2=nsr", "iterations=7", "+callbacks.mine._target_=a.B"]).splitlines()

    def line(start):
        (found,) = [line.split() for line in lines if line.split()[:1] == [start]]
        return found

    assert line("iterations")[1] == "7"
    assert line("objective.surrogate.clip_high")[1] == "0.28"
    assert line("optimizer.lr")[1:] == ["${model.lr}", "Learning", "rate."]
    assert line("model.name")[1:3] == ["tiny", "Model:"]
    assert line("callbacks.mine")[1] == "a.B"
    assert "objective=dapo" in lines and "verifier=exact" in lines
    assert any(line.startswith("phase2 ") for line in lines)
    assert not any(line.split()[:1] == ["phase3"] for line in lines)
