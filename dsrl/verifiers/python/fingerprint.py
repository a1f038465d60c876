"""What leaves the room of an answer in place of its output: short whatever was printed, and equal where that is.

worker.py takes it inside of what came out, cases.py outside of what is expected. It imports nothing of
dsrl.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

BLOCK = 1 << 20  # characters: a line takes many times its length in memory where all are split at once


def of_lines(text: str) -> str:
    """The same for texts whose lines are the same without trailing space, and without trailing empty lines."""
    text, digest, rest = text.rstrip(), hashlib.sha256(), ""
    for start in range(0, len(text), BLOCK):
        *lines, rest = (rest + text[start : start + BLOCK]).splitlines(keepends=True)
        digest.update(_encoded("".join([line.rstrip() + "\n" for line in lines])))
    digest.update(_encoded(rest))
    return digest.hexdigest()


def of_value(value: Any) -> str:
    """The same for values of JSON that are equal in Python: 1, 1.0 and True are."""
    return hashlib.sha256(_encoded(json.dumps(_plain(value), sort_keys=True))).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return value


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
