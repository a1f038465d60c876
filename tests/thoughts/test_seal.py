"""SEAL's classes on 40 texts that were counted by hand."""

import json
from collections import Counter
from pathlib import Path

import pytest

from dsrl.thoughts import Seal, Thought

TEXTS = json.loads((Path(__file__).parents[1] / "fixtures" / "seal_texts.json").read_text())


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: repr(case["text"][:30]))
def test_a_text_counted_by_hand(case):
    found = Counter(thought.class_name for thought in Seal().split(case["text"]))
    assert {name: found[name] for name in Seal().class_names} == {key: case[key] for key in case if key != "text"}


def test_there_are_forty():
    assert len({case["text"] for case in TEXTS}) == 40
    totals = {name: sum(case[name] for case in TEXTS) for name in ("reflection", "transition", "execution")}
    assert totals == {"reflection": 23, "transition": 11, "execution": 42}


def test_where_thoughts_are():
    text = "\n Add.\n\nWait, no. \n \nAlternatively:\ncount.\n"
    found = Seal().split(text)
    assert [text[start:end] for start, end, _ in found] == ["Add.", "Wait, no.", "Alternatively:\ncount."]
    assert found[1] == Thought(text.index("Wait"), text.index("Wait") + 9, "reflection")
