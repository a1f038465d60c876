"""Say which questions are held out, by a stable hash of their text.

So training and validation are disjoint in pre-training and in RL, on every machine. This file imports nothing of dsrl:
the program `dsrl/data/reasoning_gym_entries.py` runs it.
"""

import zlib

HELD_OUT_ONE_IN = 10
"""One question in this many is held out."""


def is_held_out(question: str, one_in: int = HELD_OUT_ONE_IN) -> bool:
    """Tell whether a question belongs to validation, as one in `one_in` does. It depends on the text alone."""
    return zlib.crc32(question.encode()) % one_in == 0
