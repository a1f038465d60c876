"""Named objectives. Each is a choice of parts; the README's table gives paper and equation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dsrl.objectives.policy_gradient import PolicyGradient
from dsrl.registry import register


@register("objective", "prerl")
@dataclass(kw_only=True)
class PreRL(PolicyGradient):
    """Both signs in pre-train space (arXiv 2604.14142, equation 6)."""

    space: Any = "marginal"
    advantage: Any = "group_center"


@register("objective", "nsr_prerl")
@dataclass(kw_only=True)
class NSRPreRL(PreRL):
    """Suppress wrong answers in P(y): phase 1 of DSRL (arXiv 2604.14142, section 4)."""

    keep: Any = "negative"


@register("objective", "psr_prerl")
@dataclass(kw_only=True)
class PSRPreRL(PreRL):
    """Raise right answers in P(y): the paper's contrast to nsr_prerl."""

    keep: Any = "positive"


@register("objective", "grpo")
@dataclass(kw_only=True)
class GRPO(PolicyGradient):
    """Group-relative policy optimization in P(y|x) (arXiv 2402.03300), token mean as in the paper's code."""


@register("objective", "nsr")
@dataclass(kw_only=True)
class NSR(GRPO):
    """Suppress wrong answers in P(y|x): the paper's ablation."""

    keep: Any = "negative"


@register("objective", "psr")
@dataclass(kw_only=True)
class PSR(GRPO):
    """Raise right answers in P(y|x): the paper's ablation."""

    keep: Any = "positive"


@register("objective", "dr_grpo")
@dataclass(kw_only=True)
class DrGRPO(GRPO):
    """GRPO without its length and difficulty bias (arXiv 2503.20783)."""

    advantage: Any = "group_center"
    surrogate: Any = field(default_factory=lambda: {"name": "ppo_clip", "dual_clip": None})
    aggregate: Any = "constant"


@register("objective", "dapo")
@dataclass(kw_only=True)
class DAPO(GRPO):
    """Clip-higher, token mean, groups without signal dropped (arXiv 2503.14476)."""

    keep: Any = "nonzero"
    surrogate: Any = field(default_factory=lambda: {"name": "ppo_clip", "clip_high": 0.28, "dual_clip": None})


@register("objective", "gspo")
@dataclass(kw_only=True)
class GSPO(GRPO):
    """One ratio a sequence (arXiv 2507.18071)."""

    surrogate: Any = "gspo"
    aggregate: Any = "seq_mean_token_mean"


@register("objective", "cispo")
@dataclass(kw_only=True)
class CISPO(GRPO):
    """Clipped importance weights, no token loses its gradient (arXiv 2506.13585)."""

    surrogate: Any = "cispo"


@register("objective", "rloo")
@dataclass(kw_only=True)
class RLOO(PolicyGradient):
    """REINFORCE with a leave-one-out baseline on whole sequences (arXiv 2402.14740)."""

    advantage: Any = "rloo"
    surrogate: Any = "reinforce"
    aggregate: Any = "seq_mean_token_sum"


@register("objective", "reinforce_pp")
@dataclass(kw_only=True)
class ReinforcePP(PolicyGradient):
    """REINFORCE++: advantages normalised over the batch of all ranks (arXiv 2501.03262)."""

    advantage: Any = "batch_norm"
    surrogate: Any = field(default_factory=lambda: {"name": "ppo_clip", "dual_clip": None})


@register("objective", "w_reinforce")
@dataclass(kw_only=True)
class WReinforce(PolicyGradient):
    """Weighted REINFORCE: right answers weigh lambda = 0.1, wrong ones -1 (arXiv 2506.01347)."""

    advantage: Any = "weighted"
    surrogate: Any = "reinforce"
