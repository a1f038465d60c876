"""Train with an objective of your own, and with a keep rule of your own.

    python examples/my_objective.py [KEY=VALUE ...]

From the command line, without the last lines of this file:

    DSRL_PLUGINS=examples.my_objective python train.py objective=slips +phase2=grpo
"""

import sys
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dsrl import compose, fit, register
from dsrl.objectives import PolicyGradient


@register("keep", "slips")
def slips(rewards: Tensor, advantages: Tensor, *, share: float = 0.5) -> Tensor:
    """Keep wrong answers to questions of which at least `share` of the answers are right; bool [B, G]."""
    return (advantages < 0) & (rewards.mean(-1, keepdim=True) >= share)


@register("objective", "slips")
@dataclass(kw_only=True)
class Slips(PolicyGradient):
    """Suppress slips without their question: wrong answers to what the model mostly gets right."""

    space: Any = "marginal"
    advantage: Any = "group_center"
    keep: Any = "slips"


if __name__ == "__main__":
    overrides = ["objective=slips", "objective.keep.share=0.25", "+phase2=grpo", *sys.argv[1:]]
    run = fit(compose(overrides))
    for row in run.metrics:
        print(row["iteration"], row["objective"], f"kept {row['kept/fraction']:.2f}")
