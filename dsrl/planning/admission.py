"""What is known of a run's memory before it loads: it is refused where it cannot fit, and `auto` becomes a number."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

import lightning as L

from dsrl.config.checks import AUTO
from dsrl.config.run_config import RunConfig
from dsrl.errors import ConfigError
from dsrl.models.families import attention_of
from dsrl.models.head import CHUNK_BYTES
from dsrl.parallel.collectives import gather
from dsrl.planning.architecture import Shapes, architecture_of
from dsrl.planning.device import GIB, Device
from dsrl.planning.memory import PROCESS_BYTES
from dsrl.planning.plan import micro_batch_tokens, plan_of, positions_of
from dsrl.planning.remedies import remedies_of
from dsrl.planning.workload import Workload

logger = logging.getLogger(__name__)

NEAR = 0.7
"""A run is planned in full where a generous estimate is above this share of the device."""


def with_micro_batch_tokens(config: RunConfig, saved: Mapping[str, Any] | None) -> RunConfig:
    """Replace `update.micro_batch_tokens=auto` by the number that the run uses.

    Args:
        config: the run.
        saved: the configuration, as plain values, of the run that is resumed, whose number is used again; None for a
            run from the beginning.

    Raises:
        ConfigError: no device is known, or the model's architecture cannot be found.
        NotPlannable: the model cannot run on fake tensors.
    """
    if config.update.micro_batch_tokens != AUTO:
        return config
    before = (saved or {}).get("update", {}).get("micro_batch_tokens")
    if isinstance(before, int):
        tokens, why = before, "as in the run that is resumed"
    else:
        architecture, device = architecture_of(config.model), Device.of(config)
        tokens = micro_batch_tokens(config, architecture, Shapes.of(architecture, config.model), device)
        why = f"the most that fit {device.gib:.1f} GiB"
    if os.environ.get("LOCAL_RANK", "0") == "0":
        logger.warning("update.micro_batch_tokens=%s: %d, %s", AUTO, tokens, why)
    return dataclasses.replace(
        config,
        update=dataclasses.replace(config.update, micro_batch_tokens=tokens),
        resolved={**config.resolved, "update": {**config.resolved["update"], "micro_batch_tokens": tokens}},
    )


def refuse_what_cannot_fit(config: RunConfig) -> None:
    """Raise ConfigError where a run needs more memory than its device has, unless plan.refuse is false.

    A small run is let through by arithmetic; what comes near the limit is planned. How long prompts are is not known
    yet: they are taken to be of one token, unless plan.prompt_tokens says it. Keys and values, which are few where
    responses end early, do not count. So what is refused cannot run.
    """
    # One process of a node tells: the others are started by it, or end with it.
    if not config.plan.refuse or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    config = dataclasses.replace(
        config, plan=dataclasses.replace(config.plan, prompt_tokens=config.plan.prompt_tokens or 1)
    )
    device = Device.of(config)
    try:
        if device.gib is None or estimate_gib(config, device) < NEAR * device.gib:
            return
        plan = plan_of(config, device)
    except ConfigError:
        raise
    except Exception as error:  # a plan that fails must not end a run that may not
        logger.warning("the run's memory cannot be planned (%s); whether it fits is seen when it runs", error)
        return
    memory = plan.memory.without("keys_and_values")
    if memory.peak > device.gib * GIB:
        remedies = remedies_of(config, plan.shapes, plan.workload, memory)
        less = [f"  {remedy.change}: about {remedy.gib:.1f} GiB" for remedy in remedies]
        raise ConfigError(
            "\n".join(
                [
                    f"model.name={config.model.name}: a rank needs {memory.peak / GIB:.1f} GiB in {memory.peak_at}, "
                    f"its device ({device.kind}) has {device.gib:.1f}; `python -m dsrl.plan` with the same words shows "
                    "the parts, plan.refuse=false runs anyhow" + ("; less is needed with" if less else ""),
                    *less,
                ]
            )
        )


def estimate_gib(config: RunConfig, device: Device) -> float:
    """Estimate the peak from the model's shapes alone, generously: nothing is shared among ranks, all is in float32."""
    architecture = architecture_of(config.model)
    shapes = Shapes.of(architecture, config.model)
    tokens = int(config.update.micro_batch_tokens)
    workload = Workload.of(config, positions=positions_of(architecture), micro_batch_tokens=tokens)
    rows, response = workload.rows(workload.prompt_tokens)
    length = workload.prompt_tokens + response
    copies = 2 + config.frozen_copies  # with that in which sampler hf decodes under FSDP
    state = 4 * (copies * shapes.parameters + 5 * shapes.trained)
    width = 20 * shapes.hidden + 6 * shapes.intermediate + 8 * shapes.heads * shapes.head_size
    pass_ = 4 * rows * length * width * shapes.layers
    if attention_of(architecture, config.model.attn_implementation) == "eager":
        pass_ += 4 * 4 * rows * shapes.heads * length**2 * shapes.layers
    scores = 6 * min(4 * rows * response * shapes.vocabulary, CHUNK_BYTES)
    batch = workload.prompts * workload.responses
    drawn = 4 * 6 * batch * shapes.vocabulary
    engine = 4 * shapes.parameters + 4 * GIB if hasattr(config.sampler, "gpu_memory_utilization") else 0
    return (state + pass_ + scores + drawn + engine + PROCESS_BYTES[device.kind]) / GIB


class SameBudget(L.Callback):
    """Check, before the model is loaded, that every rank came to the same `update.micro_batch_tokens`."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Compare the ranks. Raises ConfigError where they differ."""
        found = sorted(set(gather(self.tokens)))
        if len(found) > 1:
            raise ConfigError(
                f"update.micro_batch_tokens={AUTO}: ranks on devices of different sizes came to {found[0]} to "
                f"{found[-1]}; give the smallest, update.micro_batch_tokens={found[0]}"
            )
