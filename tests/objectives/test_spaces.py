"""A space is a context."""

import random
from types import SimpleNamespace

from dsrl import build, names, register
from dsrl.registry import registered_parts
from dsrl.types import Prompt

PROMPT = Prompt(position=3, text="1+1=", token_ids=(11, 12, 13), messages=({"role": "system", "content": "Be brief."},))
ENCODER = SimpleNamespace(start_token_id=7, encode=lambda messages: [len(m["content"]) for m in messages])


def context(space, prompt=PROMPT):
    return tuple(build("space", space)(prompt, ENCODER, random.Random(0)))


def test_conditional_is_the_prompt():
    assert context("conditional") == (11, 12, 13)


def test_marginal_is_one_start_token_whatever_the_prompt():
    assert context("marginal") == (7,)
    assert context("marginal", Prompt(position=0, text="", token_ids=())) == (7,)


def test_a_space_of_ones_own(monkeypatch):
    monkeypatch.setitem(registered_parts, "space", dict(registered_parts["space"]))

    @register("space", "tail")
    def tail(prompt, encoder, rng, *, length: int = 1):
        return prompt.token_ids[-length:]

    assert "tail" in names("space")
    assert context("tail") == (13,)
    assert context({"name": "tail", "length": 2}) == (12, 13)
    assert build("objective", "nsr_prerl", space={"name": "tail", "length": 2}).space == {"name": "tail", "length": 2}
