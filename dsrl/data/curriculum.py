"""Which questions are asked again, by what their last responses were worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dsrl.config.schema import CurriculumConfig
from dsrl.parallel.collectives import gather
from dsrl.types import CORRECT_THRESHOLD, Metric, Metrics, Prompt


class Curriculum:
    """Pass over questions whose last responses were all correct, or all wrong, as often as the configuration says.

    Equal on every rank, since verdicts are gathered; a function of the verdicts that a checkpoint holds.
    """

    def __init__(self, config: CurriculumConfig) -> None:
        self.config = config
        self.verdicts: dict[int, bool] = {}  # row: whether all answers were right, of rows where all were alike
        self.passed_over = 0  # by this rank in the iteration under way

    @property
    def active(self) -> bool:
        """Whether it passes over any question."""
        return min(self.config.always_right, self.config.always_wrong) < 1

    def passes_over(self, row: int, chance: float) -> bool:
        """Decide whether to ask another question than this row's; chance: a uniform number in [0, 1)."""
        verdict = self.verdicts.get(row)
        if verdict is None:
            return False
        over = chance >= (self.config.always_right if verdict else self.config.always_wrong)
        self.passed_over += over
        return over

    def update(self, prompts: Sequence[Prompt], rewards: Tensor) -> None:
        """Remember the rewards [B, G] of this rank's prompts. A collective: every rank calls it.

        Responses without a reward, which is NaN, say nothing, and a question whose responses all have none stays as it
        was.
        """
        if not self.active:
            return
        right, wrong = (rewards > CORRECT_THRESHOLD).any(-1), (rewards <= CORRECT_THRESHOLD).any(-1)
        own = [
            (prompt.position, prompt.row, some and not others, some)
            for prompt, some, others in zip(prompts, right.tolist(), wrong.tolist(), strict=True)
            if some or others
        ]
        for _, row, every, some in sorted(found for share in gather(own) for found in share):
            if every == some:
                self.verdicts[row] = every
            else:
                self.verdicts.pop(row, None)

    def metrics(self) -> Metrics:
        """Measure how many questions this iteration passed over, and how many are remembered; starts over."""
        if not self.active:
            return {}
        passed_over, self.passed_over = self.passed_over, 0
        right = sum(self.verdicts.values())
        return {
            "curriculum/passed_over": Metric.total(passed_over),
            "curriculum/always_right": Metric(right),  # every rank remembers the same
            "curriculum/always_wrong": Metric(len(self.verdicts) - right),
        }

    def state_dict(self) -> dict[str, Any]:
        """Save the verdicts, as plain values."""
        return {name: [row for row, all_right in self.verdicts.items() if all_right == kind] for name, kind in KINDS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them; there are none in the state of a run that had no curriculum."""
        self.verdicts = {row: kind for name, kind in KINDS for row in state.get(name, ())}


KINDS = (("always_right", True), ("always_wrong", False))
