"""What is compared: the command line of each arm, and the measure by which its learning rate is chosen."""

from __future__ import annotations

from dataclasses import dataclass

BONUS = "grpo_entropy"
"""The arm that is tuned by its bonus, with the learning rate of grpo."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train.

    Args:
        name: in folders, tables and curves.
        words: of `python train.py`; @BONUS@ stands for the coefficient of the bonus.
        about: in a few words.
        short: whether it is measured after the iterations of claim 2 alone.
        by_area: whether its learning rate is that of the largest area under its curve, as the claim about efficiency
            measures; else that of the highest final accuracy.
    """

    name: str
    words: tuple[str, ...]
    about: str
    short: bool = False
    by_area: bool = True


ARMS = (
    Arm(
        name="nsr_prerl",
        words=("objective=nsr_prerl",),
        about="wrong answers suppressed in P(y)",
        short=True,
        by_area=False,
    ),
    Arm(
        name="psr_prerl",
        words=("objective=psr_prerl",),
        about="right answers raised in P(y)",
        short=True,
        by_area=False,
    ),
    Arm(name="grpo", words=("objective=grpo",), about="both, in P(y|x)"),
    Arm(
        name="dsrl",
        words=("objective=nsr_prerl", "+phase2=grpo"),
        about="nsr_prerl, then grpo; the optimizer's moments are reset at the handoff",
    ),
    Arm(
        name="dsrl_carried",
        words=("objective=nsr_prerl", "+phase2=grpo", "phase2.reset_optimizer=false"),
        about="the same, with the moments carried over",
    ),
    Arm(
        name=BONUS,
        words=("objective=mixed", "objective.objectives={grpo: 1.0, entropy_bonus: @BONUS@}"),
        about="grpo with a bonus for entropy, as large as makes its entropy that of dsrl",
    ),
)
