"""A weighted sum of objectives, each scored in its own space over its own kept samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dsrl.errors import ConfigError
from dsrl.objectives.objective import Objective
from dsrl.registry import build, register


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
        self._weighted = self._build()

    @property
    def terms(self) -> list[tuple[float, Objective]]:
        """The terms of its objectives, weighted."""
        return [
            (self.coefficient * weight * inner, term)
            for weight, objective in self._weighted
            for inner, term in objective.terms
        ]

    def _build(self) -> list[tuple[float, Objective]]:
        if not self.objectives:
            raise ConfigError("objective mixed needs at least one entry in objective.objectives")
        weighted = []
        for label, entry in self.objectives.items():
            if not isinstance(entry, int | float | Mapping):
                raise ConfigError(
                    f"objective mixed: {label} must be a weight, or {{weight: ..., field: value}}, not {entry!r}"
                )
            spec = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
            weight = spec.pop("weight", 1.0)
            if not isinstance(weight, int | float):
                raise ConfigError(f"objective mixed: the weight of {label} must be a number, not {weight!r}")
            weighted.append((float(weight), build("objective", {"name": label, **spec})))
        return weighted
