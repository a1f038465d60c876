"""A third party's package: one objective, known to dsrl by its entry point alone."""

from dataclasses import dataclass

from dsrl import register
from dsrl.objectives import PolicyGradient


@register("objective", "mine")
@dataclass(kw_only=True)
class Mine(PolicyGradient):
    """GRPO in the marginal space."""

    space: str = "marginal"
    pace: int = 1
