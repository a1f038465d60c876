"""Verifiers: rollouts -> rewards. To import this package registers the built-in ones.

    verifier.py      what the loop asks of a verifier; judge(), which works with any part that has .score
    exact.py         `exact`: the final answer, letter for letter
    mathematical.py  `math`: math-verify, in processes (workers.py) that run math_worker.py

boxed.py finds the last box of a text, for both.
"""

from dsrl.verifiers.exact import Exact
from dsrl.verifiers.mathematical import Math
from dsrl.verifiers.verifier import Scorer, Verifier, ground_truth, judge

__all__ = ["Exact", "Math", "Scorer", "Verifier", "ground_truth", "judge"]
