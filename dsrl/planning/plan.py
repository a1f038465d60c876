"""What a run needs: `plan_of(config)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from dsrl.config.checks import AUTO
from dsrl.config.run_config import RunConfig
from dsrl.errors import ConfigError
from dsrl.planning.architecture import Shapes, architecture_of
from dsrl.planning.budget import largest_budget
from dsrl.planning.device import GIB, Device, with_precision
from dsrl.planning.memory import Memory, memory_of
from dsrl.planning.remedies import Remedy, remedies_of
from dsrl.planning.work import PhaseWork, checkpoint_bytes, phase_work, sync_bytes
from dsrl.planning.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run needs, on the rank that needs most and over all ranks.

    Attributes:
        config: the run.
        shapes: of its model.
        workload: sizes of the rank's share.
        device: the rank's.
        memory: peaks of its stages.
        phases: work of an iteration of each phase, over all ranks.
        sync: bytes that a rank receives when the sampler gets new weights.
        checkpoint: bytes of a checkpoint.
    """

    config: RunConfig
    shapes: Shapes
    workload: Workload
    device: Device
    memory: Memory
    phases: list[PhaseWork]
    sync: int
    checkpoint: int

    @property
    def peak_gib(self) -> float:
        """Memory that the rank needs, in GiB."""
        return self.memory.peak / GIB

    @property
    def fits(self) -> bool | None:
        """Whether the rank's device has it; None where no device is known."""
        return None if self.device.gib is None else self.peak_gib <= self.device.gib

    @property
    def remedies(self) -> list[Remedy]:
        """What would make the run need less, the most first."""
        return remedies_of(self.config, self.shapes, self.workload, self.memory)

    @property
    def busiest(self) -> PhaseWork:
        """The phase whose iterations have most to compute."""
        return max(self.phases, key=lambda phase: sum(phase.flops.values()))

    @property
    def checkpoint_seconds(self) -> float:
        """Seconds of writing a checkpoint: by rank 0, or by each rank its part to the same disk."""
        return self.checkpoint / (self.config.plan.disk_gbps * 1e9)

    @property
    def sync_seconds(self) -> float:
        """Seconds of a sync."""
        return self.sync / (self.config.plan.network_gbps * 1e9)

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain values; docs/plan.md says what the keys mean."""
        trainer = self.config.trainer
        return {
            "model": self.config.model.name,
            "parameters": self.shapes.parameters,
            "strategy": trainer.strategy,
            "ranks": self.workload.ranks,
            "peak_gib": _rounded(self.peak_gib),
            "peak_at": self.memory.peak_at,
            "parts": _in_gib(self.memory.parts),
            "stages": {name: _rounded(parts.total() / GIB) for name, parts in self.memory.stages.items()},
            "device": self.device.kind,
            "device_gib": None if self.device.gib is None else _rounded(self.device.gib),
            "fits": self.fits,
            "micro_batch_tokens": self.workload.micro_batch_tokens,
            "prompt_tokens": self.workload.prompt_tokens,
            "response_tokens": self.config.plan.response_tokens or self.workload.response_tokens,
            "tokens": sum(self.busiest.tokens.values()),
            "flops": sum(self.busiest.flops.values()),
            "phases": [
                {
                    "phase": phase.number,
                    "objective": phase.objective,
                    "tokens": phase.tokens,
                    "flops": phase.flops,
                    "padding": _rounded(phase.balance.computed / phase.balance.real),
                    "slowest": _rounded(phase.balance.slowest / phase.balance.real),
                }
                for phase in self.phases
            ],
            "sync_gib": _rounded(self.sync / GIB),
            "sync_seconds": _rounded(self.sync_seconds),
            "checkpoint_gib": _rounded(self.checkpoint / GIB),
            "checkpoint_seconds": _rounded(self.checkpoint_seconds),
            "remedies": [{"change": remedy.change, "peak_gib": _rounded(remedy.gib)} for remedy in self.remedies],
        }


def plan_of(config: RunConfig, device: Device | None = None) -> Plan:
    """Plan a run without loading its weights.

    `update.micro_batch_tokens=auto` becomes a number. Call it where no process group is, such as before a run.

    Args:
        config: made by `compose`.
        device: the device of a rank; by default the one here.

    Raises:
        ConfigError: the model's architecture cannot be found, or no device is known to which `auto` could fit.
        NotPlannable: the model cannot run on fake tensors.
    """
    device = device or Device.of(config)
    config = with_precision(config, device)
    architecture = architecture_of(config.model)
    shapes = Shapes.of(architecture, config.model)
    tokens = micro_batch_tokens(config, architecture, shapes, device)
    workload = Workload.of(config, positions=positions_of(architecture), micro_batch_tokens=tokens)
    return Plan(
        config=config,
        shapes=shapes,
        workload=workload,
        device=device,
        memory=memory_of(config, architecture, shapes, workload, device),
        phases=phase_work(config, shapes, workload),
        sync=sync_bytes(config, shapes),
        checkpoint=checkpoint_bytes(config, shapes),
    )


def micro_batch_tokens(config: RunConfig, architecture: PreTrainedConfig, shapes: Shapes, device: Device) -> int:
    """Return `update.micro_batch_tokens`; where it is `auto`, the most that fit the device."""
    given = config.update.micro_batch_tokens
    if given != AUTO:
        return int(given)
    if device.gib is None:
        raise ConfigError(f"update.micro_batch_tokens={AUTO}: no device is found here; give plan.device_gib=GIB")

    config = with_precision(config, device)

    def peaks(tokens: int) -> Memory:
        workload = Workload.of(config, positions=positions_of(architecture), micro_batch_tokens=tokens)
        return memory_of(config, architecture, shapes, workload, device)

    workload = Workload.of(config, positions=positions_of(architecture), micro_batch_tokens=1)
    return largest_budget(peaks, workload, shapes.vocabulary, device.gib)


def positions_of(architecture: PreTrainedConfig) -> int | None:
    """Say how many tokens a model has positions for; None: any number."""
    found: int | None = getattr(architecture.get_text_config(), "max_position_embeddings", None)
    return found


def _in_gib(parts: Mapping[str, int]) -> dict[str, float]:
    return {name: _rounded(size / GIB) for name, size in parts.items()}


def _rounded(value: float) -> float:
    return round(value, 4)
