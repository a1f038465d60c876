"""Thoughts: the text of a response -> stretches of it, each of a class. To import this package registers the built-in
ways to find them.

    thoughts.py   the base class, and what it returns
    seal.py       seal: thoughts between blank lines; reflection, transition, execution
    words.py      words: words and phrases of reflection and transition, English and Chinese
    pattern.py    pattern: a regular expression for each class; arithmetic: the mark of the embedded world
    counting.py   from thoughts to numbers: per answer, per 1,000 tokens, share, and the reward with and without
"""

from dsrl.thoughts.counting import ThoughtTotals, spans_of, thought_metrics, totals_of
from dsrl.thoughts.pattern import Arithmetic, Pattern
from dsrl.thoughts.seal import Seal
from dsrl.thoughts.thoughts import Thought, Thoughts
from dsrl.thoughts.words import Words

__all__ = [
    "Arithmetic",
    "Pattern",
    "Seal",
    "Thought",
    "ThoughtTotals",
    "Thoughts",
    "Words",
    "spans_of",
    "thought_metrics",
    "totals_of",
]
