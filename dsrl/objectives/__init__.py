"""Objectives and their parts: advantages, keep, spaces, surrogates, aggregates, token weights, the pull to the
reference; presets.
"""

from dsrl.objectives import advantages, aggregates, keep, presets, spaces, surrogates, token_weights
from dsrl.objectives.entropy_bonus import EntropyBonus
from dsrl.objectives.kl import KL
from dsrl.objectives.kl_penalty import KLPenalty
from dsrl.objectives.mixed import Mixed
from dsrl.objectives.objective import Objective
from dsrl.objectives.policy_gradient import PolicyGradient
from dsrl.objectives.token_weights import TokenWeight

__all__ = [
    "EntropyBonus",
    "KL",
    "KLPenalty",
    "Mixed",
    "Objective",
    "PolicyGradient",
    "TokenWeight",
    "advantages",
    "aggregates",
    "keep",
    "presets",
    "spaces",
    "surrogates",
    "token_weights",
]
