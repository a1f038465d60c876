"""Verifiers: rollouts -> rewards. To import this package registers the built-in ones.

Each file is named after the verifier that it registers:

    exact.py          the final answer as a string          format.py     the tags of the response
    numeric.py        its number, within a tolerance        length.py     a penalty for many tokens
    math.py           mathematical equality (math-verify)   function.py   a plain callable: ours, TRL's or verl's
    choice.py         the letter of a multiple choice       composite.py  a weighted sum of verifiers
    regex.py          a regular expression                  by_source.py  another verifier for each data source
    reasoning_gym.py  the task's own scorer                 auto.py       another verifier for each form of ground truth
    python/           code against tests, in a sandbox

What they are made of:

    verifier.py       the base class; compute_rewards and others, which work with any object that has `score`
    failures.py       what a verifier fails on: counted, kept, and a reason to stop
    routing.py        the base class of those that choose another verifier for each row
    ground_truth.py   what a response is compared with
    answer_forms.py   what a ground truth is by its form
    last_boxed.py  last_number.py  single_number.py  choice_letter.py  plain_text.py  math_reading.py   answers in texts
    workers/          the processes of verifiers whose checks may hang or crash (math, reasoning_gym, python, function)

And for people who use or write one:

    text_rollouts.py  texts that nobody sampled, as rollouts
    texts.py          score a list of strings, without a run
    contract.py       what every verifier must do, as checks that a plugin's tests can run
"""

from dsrl.verifiers.auto import Auto
from dsrl.verifiers.by_source import BySource
from dsrl.verifiers.choice import Choice
from dsrl.verifiers.composite import Composite
from dsrl.verifiers.exact import Exact
from dsrl.verifiers.format import Format
from dsrl.verifiers.function import Function
from dsrl.verifiers.ground_truth import column_of, ground_truth_of
from dsrl.verifiers.length import Length
from dsrl.verifiers.math import Math
from dsrl.verifiers.numeric import Numeric
from dsrl.verifiers.python import Python
from dsrl.verifiers.reasoning_gym import ReasoningGym
from dsrl.verifiers.regex import Regex
from dsrl.verifiers.texts import score_texts
from dsrl.verifiers.verifier import SupportsScore, Verifier, compute_rewards, extracted_answers_of

__all__ = [
    "Auto",
    "BySource",
    "Choice",
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
    "column_of",
    "compute_rewards",
    "extracted_answers_of",
    "ground_truth_of",
    "score_texts",
]
