"""What stands for an output: equal where the outputs count as equal, and nowhere else."""

from __future__ import annotations

import hashlib

import pytest

from dsrl.verifiers.python import fingerprint
from dsrl.verifiers.python.fingerprint import of_lines, of_value

TEXTS = [
    "",
    "a",
    "a b\nc",
    " a\n\n b \r\nc\n\n",
    "a\r\x0bb\x85c\u2028d",
    "\r\n" * 9 + "x",
    "long " * 9 + "\n",
    "\ud800",
]


def test_it_is_a_hash_of_the_lines() -> None:
    assert of_lines(" a \r\n\n b\t\n\n") == hashlib.sha256(b" a\n\n b").hexdigest()


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_lines_are_the_same_however_they_are_read(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [of_lines(text) for text in TEXTS]
    assert len({*expected}) == len(TEXTS)
    monkeypatch.setattr(fingerprint, "BLOCK", block)
    assert [of_lines(text) for text in TEXTS] == expected


def test_values_are_the_same_where_python_says_so() -> None:
    values = [
        None,
        True,
        False,
        0,
        1,
        1.0,
        1.5,
        -0.0,
        2**64,
        float(2**64),
        "1",
        [1],
        [True],
        [[1]],
        {"a": 1},
        {"a": 1.0},
    ]
    for one in values:
        for other in values:
            assert (of_value(one) == of_value(other)) == (one == other), (one, other)
