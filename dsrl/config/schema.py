"""The typed configuration: what may be set, of which type, with which default.

The docstring under a field is what `python train.py --help` says of it. Parts of a registered kind (objective, phase2,
data, sampler, verifier) are specs: a name with parameters beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import II, MISSING

from dsrl.config.settled import Settled


@dataclass(kw_only=True)
class LoraConfig(Settled):
    """Adapters: small trainable matrices beside frozen weights."""

    rank: int = 0
    """Rank of the adapters; 0 trains all weights instead."""
    alpha: int = 32
    """Scale: the product of the two matrices is multiplied by alpha / rank."""
    target_modules: Any = "all-linear"
    """Layers that get adapters: all-linear, or a list of names."""


@dataclass(kw_only=True)
class ModelConfig(Settled):
    """A causal language model, and the defaults that fit it."""

    name: str = field(default=MISSING, metadata={"needs": "tiny, smollm2, a folder, or a name on the Hugging Face hub"})
    """Model: tiny, smollm2, a folder, or a name on the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: str = "float32"
    """Type of the weights: float32, bfloat16, float16; trainer.precision says that of the compute."""
    attn_implementation: str = "sdpa"
    """Attention kernel: sdpa, eager, flash_attention_2, flash_attention_3, flex_attention."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, to save memory."""
    activation_offloading: bool = False
    """Keep what gradient checkpointing saves, the inputs of blocks, in the CPU's memory."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    chat: bool = True
    """Ask with the tokenizer's chat template, where it has one."""
    chat_options: dict[str, Any] = field(default_factory=lambda: {"enable_thinking": False})
    """Arguments of the chat template."""
    start_token: str | int | None = None
    """Token that P(y) starts from; null: BOS, else what opens the chat template, else EOS."""
    reflection: str = r"(?i)\b(wait|however|alternatively|let me (re)?(check|think|verify|consider)|double-check)\b"
    """Regular expression of a reconsideration, counted in every response."""
    lr: float = 1e-6
    """Learning rate that fits the model: the default of optimizer.lr."""
    phase1_iterations: int = 20
    """Iterations of phase 1 that fit the model: the default of phase2.start."""
    max_new_tokens: int = 1024
    """Length of a response that fits the model: the default of sampling.max_new_tokens."""

    def plain(self) -> ModelConfig:
        """Return the same model without adapters and what training alone needs."""
        return replace(self, lora=LoraConfig(), gradient_checkpointing=False, activation_offloading=False)


@dataclass(kw_only=True)
class SamplingConfig(Settled):
    """How responses are sampled."""

    max_new_tokens: int = II("model.max_new_tokens")
    """Longest response, in tokens."""
    temperature: float = 1.0
    """Temperature; above 0 in training."""
    top_p: float = 1.0
    """Nucleus: the smallest set of tokens of this probability is sampled from; 1: all tokens."""
    top_k: int = 0
    """The number of likeliest tokens that are sampled from; 0: all tokens."""
    stop: list[str] = field(default_factory=list)
    """Tokens that end a response, beside the model's own."""

    @property
    def restricted(self) -> bool:
        """Whether top_p or top_k leave out tokens, so that responses are not drawn from P(y|x) itself."""
        return self.top_p < 1 or self.top_k > 0


@dataclass(kw_only=True)
class OptimizerConfig(Settled):
    """AdamW and its learning rate."""

    lr: float = II("model.lr")
    """Learning rate."""
    weight_decay: float = 0.01
    """Weight decay, decoupled."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Decay rates of the two moments."""
    eps: float = 1e-8
    """Added to the denominator."""
    schedule: str = "constant"
    """Learning rate from a phase's first iteration to the run's last: constant, linear, cosine."""
    warmup: int = 0
    """Iterations at the beginning of a phase in which the learning rate rises from 0."""


@dataclass(kw_only=True)
class UpdateConfig(Settled):
    """How a batch of rollouts becomes optimizer steps: minibatches x epochs of them."""

    micro_batch_tokens: Any = 8192
    """Tokens in a forward and backward pass, padding included; bounds memory alone; auto: the most that fit."""
    share_prompts: bool = True
    """Read a prompt once for its responses, where the model can and it is cheaper; changes no result."""
    minibatches: int = 1
    """Optimizer steps in an epoch over the rollouts."""
    epochs: int = 1
    """Times that the rollouts of an iteration are used."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0: not clipped."""


@dataclass(kw_only=True)
class MismatchConfig(Settled):
    """The sampler's probabilities against the trainer's: measured, and corrected in the conditional space."""

    every: int = 10
    """Iterations between measurements, where the objective does not need the pass anyway; 0: none."""
    correction: str = "auto"
    """Importance weights: on, off; auto: on where the sampler does not compute as the trainer does."""
    level: str = "token"
    """What has a weight: token, sequence."""
    mode: str = "truncate"
    """What becomes of weights above the cap: truncate takes the cap, mask takes 0."""
    cap: float = 2.0
    """Largest weight."""


@dataclass(kw_only=True)
class ValidationConfig(Settled):
    """avg@k and pass@j on data.val: before the first iteration, every few iterations, and at the end."""

    every: int = 10
    """Iterations between validations; 0: no validation at all."""
    k: int = 4
    """Responses to each question."""
    temperature: float = 1.0
    """Temperature; 0: greedy."""


@dataclass(kw_only=True)
class CurriculumConfig(Settled):
    """How often a question is asked when its turn comes; where it is not, a random other one takes its place."""

    always_right: float = 1.0
    """Probability to ask a question whose last responses were all right."""
    always_wrong: float = 1.0
    """Probability to ask a question whose last responses were all wrong."""


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
    sharded: bool = False
    """Write a folder to which each rank adds its part, instead of one file."""


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


@dataclass(kw_only=True)
class PhaseSamplingConfig(SamplingConfig):
    """Sampling of a later phase: that of the run, unless overridden."""

    max_new_tokens: int = II("sampling.max_new_tokens")
    temperature: float = II("sampling.temperature")
    top_p: float = II("sampling.top_p")
    top_k: int = II("sampling.top_k")
    stop: list[str] = II("sampling.stop")


@dataclass(kw_only=True)
class PhaseConfig(Settled):
    """A phase after the first."""

    objective: Any = None
    """Objective of the phase; chosen by +phase2=NAME."""
    start: Any = field(default=MISSING, metadata={"needs": "the iteration in which it begins, or a condition"})
    """Iteration (from 0) in which the phase begins, or a condition: {name: drop, by: 0.1}."""
    lr: float = II("optimizer.lr")
    """Learning rate."""
    schedule: str = II("optimizer.schedule")
    """Learning rate to the run's last iteration: constant, linear, cosine."""
    warmup: int = II("optimizer.warmup")
    """Iterations in which the learning rate rises from 0."""
    reset_optimizer: bool = True
    """Clear the optimizer's moments when the phase begins."""
    sync_reference: bool = True
    """Copy the policy into the reference model when the phase begins."""
    sampling: PhaseSamplingConfig = field(default_factory=PhaseSamplingConfig)


@dataclass(kw_only=True)
class TrainSchema:
    """The root of a run (`python train.py`)."""

    objective: Any = None
    phase2: Any = None
    phase3: Any = None
    phase4: Any = None
    phase5: Any = None
    model: ModelConfig = field(default_factory=ModelConfig)
    data: Any = None
    sampler: Any = None
    verifier: Any = None
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=dict)
    """Loggers of Lightning: logger=NAME or [a,b], or +logger.mine._target_=CLASS."""
    callbacks: dict[str, Any] = field(default_factory=dict)
    """Callbacks of Lightning: callbacks=NAME or [a,b], or +callbacks.mine._target_=CLASS."""
    iterations: int = 40
    """Iterations of the run: batches of prompts that are sampled, checked and learned from."""
    prompts_per_iteration: int = 64
    """Prompts in an iteration, over all ranks (B)."""
    responses_per_prompt: int = 8
    """Responses to each prompt (G)."""
    dynamic_sampling: int = 0
    """Times, at most, that groups of equal rewards are replaced by those of other prompts; 0: never."""
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    mismatch: MismatchConfig = field(default_factory=MismatchConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    logged_samples: int = 8
    """Rollouts of each iteration that are written to samples.jsonl."""
    seed: int = 0
    """Seed of all draws."""
    run_dir: str = "runs/latest"
    """Folder of the run's files; must not hold a run, unless resume=last."""
    resume: str | None = None
    """Checkpoint to go on from, or last: the newest in run_dir."""
