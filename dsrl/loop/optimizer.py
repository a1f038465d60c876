"""The optimizer of the policy."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from dsrl.config.schema import OptimizerConfig


def adamw(parameters: Iterable[nn.Parameter], settings: OptimizerConfig, lr: float) -> torch.optim.AdamW:
    """Make AdamW over the parameters that are trained. Its structure is the same in every phase."""
    return torch.optim.AdamW(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=lr,
        betas=(settings.betas[0], settings.betas[1]),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
