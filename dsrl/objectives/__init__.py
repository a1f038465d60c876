"""Objectives and their parts: advantages, keep, spaces, surrogates, aggregates, the pull to the reference; presets."""

from dsrl.objectives import advantages, aggregates, keep, presets, spaces, surrogates
from dsrl.objectives.kl import KL
from dsrl.objectives.kl_penalty import KLPenalty
from dsrl.objectives.mixed import Mixed
from dsrl.objectives.objective import Objective
from dsrl.objectives.policy_gradient import PolicyGradient

__all__ = [
    "KL",
    "KLPenalty",
    "Mixed",
    "Objective",
    "PolicyGradient",
    "advantages",
    "aggregates",
    "keep",
    "presets",
    "spaces",
    "surrogates",
]
