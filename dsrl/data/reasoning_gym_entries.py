"""Draw questions of reasoning_gym: a program that runs in a process of its own, with PYTHONHASHSEED=0.

Some tasks go through sets of texts, whose order is otherwise different in every process. Then ranks, or a run and its
resume, would have different questions. The program reads a pickled list of arguments of `draw_entries` and writes a
pickled list of the results. It imports nothing of dsrl.
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
"""One question in this many belongs to validation; its text alone decides, not the task, seed or sizes."""

PATIENCE = 100
"""After this many draws in a row without a usable question, a task is taken to have no more."""

DATASET_SIZE = 256
"""Questions in one data set of reasoning_gym. It is small, since some make all of their questions at the start."""


def draw_entries(
    task: str, parameters: Mapping[str, Any], seed: int, size: int, validation: bool
) -> list[dict[str, Any]]:
    """Draw questions of a task, for training or for validation; those of validation differ from each other.

    Args:
        task: its name.
        parameters: the task's own.
        seed: which questions.
        size: how many; fewer are returned if the task has no more.
        validation: on which side of the split.
    """
    is_held_out = runpy.run_path(str(Path(__file__).parents[1] / "worlds" / "held_out.py"))["is_held_out"]
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
    """Yield questions of both sides, without end."""
    import reasoning_gym

    seeds = random.Random(seed)
    while True:  # entry i is drawn with seed + i, so neighbouring seeds would share entries
        dataset = reasoning_gym.create_dataset(task, size=DATASET_SIZE, seed=seeds.getrandbits(31), **parameters)
        yield from (dataset[index] for index in range(DATASET_SIZE))


def main() -> None:
    """Read the requests from standard input and write the results to standard output, and nothing else."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with answers:
        pickle.dump([draw_entries(*request) for request in pickle.load(sys.stdin.buffer)], answers)


if __name__ == "__main__":
    main()
