"""Draws questions of reasoning_gym, in a process of its own.

Some tasks go through sets of texts, whose order is another in every process unless PYTHONHASHSEED is given; then ranks,
and a run and its resume, would have different questions. It reads a pickled list of the arguments of `entries`, and
writes a pickled list of what each gives. It imports nothing of dsrl.
"""

from __future__ import annotations

import os
import pickle
import random
import runpy
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HELD_OUT_ONE_IN = 4
"""One question in this many belongs to validation, by its text alone: so no task, seed or size lets the two meet."""

PATIENCE = 100
"""After so many draws in a row without a question of use, a task has no more of them."""

CHUNK = 256
"""Questions of one of reasoning_gym's data sets, some of which make all of theirs at the start."""


def entries(task: str, parameters: Mapping[str, Any], seed: int, size: int, validation: bool) -> list[dict[str, Any]]:
    """`size` questions of one side, or as many as are found; those of validation differ from each other."""
    is_held_out = runpy.run_path(str(Path(__file__).with_name("arithmetic_world.py")))["is_held_out"]
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    fruitless, drawn = 0, _drawn(task, parameters, seed)
    while len(found) < size and fruitless < PATIENCE:
        entry = next(drawn)
        question = entry["question"]
        if is_held_out(question, HELD_OUT_ONE_IN) == validation and question not in seen:
            found.append(entry)
            seen |= {question} if validation else set()
            fruitless = 0
        else:
            fruitless += 1
    return found


def _drawn(task: str, parameters: Mapping[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """Questions of both sides, without end."""
    import reasoning_gym

    seeds = random.Random(seed)
    while True:  # entry i is drawn with seed + i, so neighbouring seeds would share entries
        dataset = reasoning_gym.create_dataset(task, size=CHUNK, seed=seeds.getrandbits(31), **parameters)
        yield from (dataset[index] for index in range(CHUNK))


def main() -> None:
    """Answer the requests of the standard input, and say nothing else there."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with answers:
        pickle.dump([entries(*request) for request in pickle.load(sys.stdin.buffer)], answers)


if __name__ == "__main__":
    main()
