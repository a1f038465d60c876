"""Verifiers: rollouts -> rewards. To import this package registers the built-in ones.

    verifier.py      what the loop asks of a verifier; compute_rewards(), which works with any part that has .score
    exact.py         `exact`: the final answer, letter for letter
    numeric.py       `numeric`: its number (number.py), within a tolerance
    pattern.py       `regex`
    format.py        `format`: think and answer tags
    length.py        `length`: DAPO's soft overlong penalty
    mathematical.py  `math`: math-verify
    procedural.py    `reasoning_gym`: the task's own scorer
    python_code.py   `python`: code against tests (python_tests.py, fingerprint.py), in sandbox.py (seccomp.py)
    function.py      `function`: a plain callable, ours, TRL's or verl's
    composite.py     `composite`: a weighted sum of others
    by_source.py     `by_source`: another for each data source
    contract.py      what every verifier must do, as checks that a plugin's tests can run

Those whose checks may hang or crash (pooled.py) ask processes (worker_pool.py), which run worker_program.py with a file
of theirs: math_worker.py, reasoning_gym_worker.py, function_worker.py, python/worker.py.
"""

from dsrl.verifiers.by_source import BySource
from dsrl.verifiers.composite import Composite
from dsrl.verifiers.exact import Exact
from dsrl.verifiers.format import Format
from dsrl.verifiers.function import Function
from dsrl.verifiers.length import Length
from dsrl.verifiers.math import Math
from dsrl.verifiers.numeric import Numeric
from dsrl.verifiers.python.verifier import Python
from dsrl.verifiers.reasoning_gym import ReasoningGym
from dsrl.verifiers.regex import Regex
from dsrl.verifiers.verifier import SupportsScore, Verifier, compute_rewards, ground_truth_of

__all__ = [
    "BySource",
    "Composite",
    "Exact",
    "Format",
    "Function",
    "Length",
    "Math",
    "Numeric",
    "Python",
    "ReasoningGym",
    "Regex",
    "SupportsScore",
    "Verifier",
    "ground_truth_of",
    "compute_rewards",
]
