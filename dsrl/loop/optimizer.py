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

    It is fused where the device of the weights has such a kernel; elsewhere torch chooses. A checkpoint may come from
    another device, so what it says of that is ignored.
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
    optimizer.register_load_state_dict_pre_hook(_keep_implementation)
    return optimizer


def _keep_implementation(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Let a state that is loaded say nothing of the implementation, by which torch also places the counts of steps."""
    own = {key: optimizer.param_groups[0][key] for key in ("fused", "foreach")}
    return {**state, "param_groups": [{**group, **own} for group in state["param_groups"]]}
