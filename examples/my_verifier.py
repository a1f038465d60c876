"""Reward what you want: a verifier of your own, tried on strings, then trained with.

    python examples/my_verifier.py [KEY=VALUE ...]

From the command line: `DSRL_PLUGINS=examples.my_verifier python train.py verifier=digits`.
"""

import sys
from dataclasses import dataclass

from dsrl import build, compose, fit, register
from dsrl.types import Prompt
from dsrl.verifiers import Verifier, ground_truth_of


@register("verifier", "digits")
@dataclass(kw_only=True)
class Digits(Verifier):
    """Give the share of the ground truth's digits that are right, to a power."""

    power: float = 1.0

    def score_one(self, response: str, prompt: Prompt) -> float:
        """Return the reward of one response, from 0 to 1."""
        truth = ground_truth_of(prompt)
        given = self.extract_answer(response)
        return (sum(a == b for a, b in zip(given, truth, strict=False)) / len(truth)) ** self.power

    def extract_answer(self, response: str) -> str:
        """Return what is taken for the answer: what follows the last `#`."""
        return response.rpartition("#")[2].strip()


if __name__ == "__main__":
    verifier = build("verifier", "digits", power=2.0)
    prompt = Prompt(position=0, text="17+25=", token_ids=(), ground_truth="42")
    print(verifier.score_all(["7+5=12;#42", "7+5=13;#43", "no answer"], [prompt] * 3))

    run = fit(compose(["verifier=digits", "verifier.power=2", *sys.argv[1:]]))
    print([round(row["reward/mean"], 3) for row in run.metrics])
