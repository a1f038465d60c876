"""Regular expressions by class, and the mark of the embedded world."""

import pytest

from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.thoughts import Arithmetic, Pattern, Thought


def test_the_mark_of_the_embedded_world():
    found = Arithmetic().split("7+0+0=7;3+2+0=6;?3+2+0=5;?3+2+0=5;#57")
    assert found == [Thought(16, 17, "reflection"), Thought(25, 26, "reflection")]
    assert Arithmetic().split("") == []


def test_an_earlier_class_comes_first():
    """`no` alone is of the second class; within what the first has matched it is none."""
    pattern = build("thoughts", {"name": "pattern", "classes": {"doubt": r"no, wait", "denial": r"no"}})
    assert pattern.class_names == ("doubt", "denial")
    assert pattern.split("no; no, wait no") == [(0, 2, "denial"), (4, 12, "doubt"), (13, 15, "denial")]


def test_an_empty_match_is_none():
    assert Pattern(classes={"a": "x*"}).split("axxb") == [(1, 3, "a")]


def test_what_is_no_expression():
    with pytest.raises(ConfigError, match=r"classes\.doubt=\(: not a regular expression, missing \)"):
        Pattern(classes={"doubt": "("})
    with pytest.raises(ConfigError, match="give a regular expression for each class"):
        Pattern(classes={})
