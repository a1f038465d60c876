"""Which samples count: (rewards [B, G], advantages [B, G]) to bool [B, G].

What is not kept never reaches the model and is in no denominator. "Negative" is said of the advantage. With advantage
`group_center` or `group_norm`, as in the paper's code, a group whose answers are all wrong has advantage 0 and is
dropped; with `signed` each of its answers is -1 and is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsrl.registry import register


@register("keep", "all")
def keep_all(rewards: Tensor, advantages: Tensor) -> Tensor:
    """Every sample."""
    return torch.ones_like(advantages, dtype=torch.bool)


@register("keep", "negative")
def negative(rewards: Tensor, advantages: Tensor) -> Tensor:
    """advantage < 0: negative sample reinforcement (NSR)."""
    return advantages < 0


@register("keep", "positive")
def positive(rewards: Tensor, advantages: Tensor) -> Tensor:
    """advantage > 0: positive sample reinforcement (PSR)."""
    return advantages > 0


@register("keep", "nonzero")
def nonzero(rewards: Tensor, advantages: Tensor) -> Tensor:
    """advantage != 0: drops groups without signal (DAPO, arXiv 2503.14476, section 3.2)."""
    return advantages != 0
