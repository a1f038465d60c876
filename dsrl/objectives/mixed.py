"""A weighted sum of objectives, each scored in its own space over its own kept samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dsrl.objectives.objective import Objective
from dsrl.registry import build_weighted, register


def _joint_mode() -> dict[str, Any]:
    return {"grpo": {"weight": 1.0}, "nsr_prerl": {"weight": 0.01}}


@register("objective", "mixed")
@dataclass(kw_only=True)
class Mixed(Objective):
    """`objectives` maps a registered name to its weight and, beside it, any of its fields.

    The default is the joint mode of the paper's code, grpo + 0.01 nsr_prerl. A key may be any label where the entry
    has a `name` of its own, so that one objective can appear twice with other parts.
    """

    objectives: Any = field(default_factory=_joint_mode)

    def __post_init__(self) -> None:
        """Builds its objectives, so that a misspelt one is refused before anything is loaded."""
        self._weighted = list(build_weighted("objective", "objective mixed: objectives", self.objectives).values())

    @property
    def terms(self) -> list[tuple[float, Objective]]:
        """The terms of its objectives, weighted."""
        return [
            (self.coefficient * weight * inner, term)
            for weight, objective in self._weighted
            for inner, term in objective.terms
        ]
