"""The optimizer of the policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from dsrl.config.schema import OptimizerConfig

FUSED_DEVICES = ("cpu", "cuda", "mps")
"""Types of devices on which torch's AdamW updates all parameters in one kernel."""


def adamw(parameters: Iterable[nn.Parameter], settings: OptimizerConfig, lr: float) -> torch.optim.AdamW:
    """Make AdamW over the parameters that are trained. Its structure is the same in every phase.

    It is fused where the device of the weights has such a kernel; elsewhere torch chooses. From a checkpoint it takes
    the moments alone: what it is set to, and its implementation, are as made here.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained,
        lr=lr,
        betas=(settings.betas[0], settings.betas[1]),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True if all(parameter.device.type in FUSED_DEVICES for parameter in trained) else None,
    )
    optimizer.register_load_state_dict_pre_hook(_keep_settings)
    return optimizer


def _keep_settings(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Let a state that is loaded say nothing of settings, nor of the implementation, by which torch also places the
    counts of steps.
    """
    own = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    return {**state, "param_groups": [{**group, **own} for group in state["param_groups"]]}
