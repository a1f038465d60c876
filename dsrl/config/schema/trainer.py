"""The machine: devices, precision, checkpoints, and what is known of memory before a run."""

from __future__ import annotations

from dataclasses import dataclass

from dsrl.config.settled import Settled


@dataclass(kw_only=True)
class TrainerConfig(Settled):
    """Lightning's Trainer: devices, precision, time, debugging."""

    strategy: str = "auto"
    """How ranks share the model: auto, ddp, fsdp, fsdp1; chosen by trainer=NAME."""
    accelerator: str = "auto"
    """Kind of device: auto, cpu, gpu, cuda, mps."""
    devices: int = 1
    """Devices of each node."""
    num_nodes: int = 1
    """Nodes."""
    shard_within: str | None = None
    """Where fsdp shards: node, with a copy of the model on each node (HSDP); null: over all ranks."""
    precision: str = "auto"
    """Compute: 32-true, bf16-mixed, bf16-true, 16-true; auto: bf16-mixed on a GPU with bfloat16, else 32-true."""
    compile: bool = False
    """Compile the transformer blocks with torch.compile; the first passes take minutes."""
    timeout: float = 600.0
    """Seconds that ranks wait for one that is stuck or silent, before the run ends."""
    cpu_offload: bool = False
    """Keep parts of weights and optimizer in the CPU's memory (fsdp, fsdp1)."""
    max_time: str | None = None
    """Time after which the run saves and ends, resumed parts included: days:hours:minutes:seconds."""
    deterministic: bool = False
    """Use deterministic kernels alone; an operation without one raises."""
    benchmark: bool | None = None
    """Let cuDNN choose the fastest kernels; null: PyTorch's own setting."""
    detect_anomaly: bool = False
    """Find the operation that made a gradient NaN; slow."""
    profiler: str | None = None
    """Write where the time goes to the run folder: simple, advanced, pytorch."""


@dataclass(kw_only=True)
class CheckpointConfig(Settled):
    """What is saved, and what stays; checkpoints at handoffs and at the end are always written."""

    every: int = 10
    """Iterations between checkpoints; 0: only at handoffs and at the end."""
    keep: int = 1
    """How many of the newest stay; those of handoffs stay, too."""
    best: str | None = None
    """Metric whose best iteration keeps a checkpoint of its own."""
    best_mode: str = "max"
    """Whether the best is the largest or the smallest value: max, min."""
    sharded: bool | None = None
    """Write a folder, each rank its part, while the run goes on; false: rank 0 one file; null: with fsdp, fsdp1."""


@dataclass(kw_only=True)
class PlanConfig(Settled):
    """What a run needs, known before it loads (`python -m dsrl.plan`)."""

    refuse: bool = True
    """Refuse a run that needs more memory than its device has; false: run anyhow."""
    device_gib: float | None = None
    """Memory of each device in GiB; null: that of the device found."""
    prompt_tokens: int | None = None
    """Tokens of a prompt that the plan assumes; null: the most, data.max_prompt_tokens."""
    response_tokens: int | None = None
    """Mean tokens of a response, for work and balance; null: the most, sampling.max_new_tokens."""
    response_spread: float = 0.6
    """Spread of those lengths: the standard deviation of their logarithms, for padding and balance."""
    disk_gbps: float = 1.0
    """Gigabytes a second at which a checkpoint is written, for its seconds."""
    network_gbps: float = 25.0
    """Gigabytes a second that a rank receives from others, for the seconds of a sync."""
