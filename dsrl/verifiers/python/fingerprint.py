"""Fingerprints of outputs: short hashes, which are equal where two outputs count as equal.

python_handler.py, in the worker, takes the fingerprint of what an answer's program printed or returned. cases.py, in
the trainer, compares it with that of what is expected. So the code of an answer never meets the expected output, and a
long output need not be sent. This file imports nothing of dsrl.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

BLOCK = 1 << 20  # characters that are split at once: the list of lines takes many times their length in memory


def of_lines(text: str) -> str:
    """Return the fingerprint of a text by its lines, without trailing space and without empty lines at the end."""
    text, digest, rest = text.rstrip(), hashlib.sha256(), ""
    for start in range(0, len(text), BLOCK):
        *lines, rest = (rest + text[start : start + BLOCK]).splitlines(keepends=True)
        digest.update(_encoded("".join([line.rstrip() + "\n" for line in lines])))
    digest.update(_encoded(rest))
    return digest.hexdigest()


def of_value(value: Any) -> str:
    """Return the fingerprint of a value of JSON. Values that are equal in Python have the same, as 1, 1.0 and True."""
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
