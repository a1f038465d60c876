"""The typed configuration: what may be set, of which type, with which default.

Parts of a registered kind (objective, phase2, data, sampler, verifier) are specs: a name with parameters beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import II, MISSING


@dataclass(kw_only=True)
class LoraConfig:
    """Small trainable matrices beside frozen weights, instead of training all."""

    rank: int = 0  # 0: none
    alpha: int = 32  # the product of the matrices is scaled by alpha / rank
    target_modules: Any = "all-linear"  # or a list of the layers' names


@dataclass(kw_only=True)
class ModelConfig:
    """A causal language model, and the defaults that fit it: `optimizer.lr` and others refer to them."""

    name: str = field(default=MISSING, metadata={"needs": "tiny, smollm2, a folder, or a name on the Hugging Face hub"})
    revision: str | None = None
    dtype: str = "float32"  # of the weights; that of the compute follows trainer.precision
    attn_implementation: str = "sdpa"
    gradient_checkpointing: bool = False
    lora: LoraConfig = field(default_factory=LoraConfig)
    chat: bool = True  # use the tokenizer's chat template where it has one
    chat_options: dict[str, Any] = field(default_factory=lambda: {"enable_thinking": False})  # given to the template
    start_token: str | int | None = None  # context of the marginal space; null: BOS, what opens the chat, or EOS
    reflection: str = r"(?i)\b(wait|however|alternatively|let me (re)?(check|think|verify|consider)|double-check)\b"
    lr: float = 1e-6
    phase1_iterations: int = 20
    max_new_tokens: int = 1024

    def plain(self) -> ModelConfig:
        """The same model without adapters and what training alone needs."""
        return replace(self, lora=LoraConfig(), gradient_checkpointing=False)


@dataclass(kw_only=True)
class SamplingConfig:
    """How training samples are drawn."""

    max_new_tokens: int = II("model.max_new_tokens")
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    stop: list[str] = field(default_factory=list)  # tokens that end a response, beside the model's own

    @property
    def restricted(self) -> bool:
        """Whether top_p or top_k leave out tokens, so that responses are not drawn from P(y|x) itself."""
        return self.top_p < 1 or self.top_k > 0


@dataclass(kw_only=True)
class OptimizerConfig:
    """AdamW. `schedule` (constant, linear, cosine) runs from a phase's first iteration to the run's last."""

    lr: float = II("model.lr")
    weight_decay: float = 0.01
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    schedule: str = "constant"
    warmup: int = 0  # iterations from 0 to lr


@dataclass(kw_only=True)
class UpdateConfig:
    """How a batch of rollouts becomes optimizer steps: `minibatches` x `epochs` of them."""

    micro_batch_tokens: int = 8192  # padded tokens in a micro-batch
    minibatches: int = 1
    epochs: int = 1
    clip_norm: float = 1.0  # 0: gradients are not clipped


@dataclass(kw_only=True)
class MismatchConfig:
    """The sampler's probabilities against the trainer's: measured, and corrected in the conditional space."""

    every: int = 10  # iterations between measurements where the objective does not run the pass anyway; 0: none
    correction: str = "auto"  # on, off; auto: on where the sampler does not compute as the trainer does
    level: str = "token"  # or sequence
    mode: str = "truncate"  # or mask: what becomes of weights above the cap
    cap: float = 2.0


@dataclass(kw_only=True)
class ValidationConfig:
    """avg@k and pass@j on `data.val`: before the first iteration, each `every` (0: never at all) and at the end."""

    every: int = 10
    k: int = 4
    temperature: float = 1.0


@dataclass(kw_only=True)
class CurriculumConfig:
    """How often a question is asked when its turn comes, if its last answers were all alike: 1 always, 0 never.

    Where it is not, another one, drawn at random, takes its place.
    """

    always_right: float = 1.0
    always_wrong: float = 1.0


@dataclass(kw_only=True)
class CheckpointConfig:
    """Every `every` iterations (0: only at handoffs and at the end). The newest `keep` stay, and all handoffs.

    `best` names a metric: the checkpoint of the iteration where it was best stays, too.
    """

    every: int = 10
    keep: int = 1
    best: str | None = None
    best_mode: str = "max"  # or min
    sharded: bool = False  # a folder to which each rank writes its part, instead of one file


@dataclass(kw_only=True)
class TrainerConfig:
    """What Lightning's Trainer is given."""

    strategy: str = "auto"
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: str = "32-true"
    timeout: float = 600.0  # seconds that the ranks wait for one that is stuck or silent, before the run ends
    cpu_offload: bool = False  # fsdp, fsdp1: parts of weights and optimizer in the CPU's memory


@dataclass(kw_only=True)
class PhaseSamplingConfig(SamplingConfig):
    """Sampling of a later phase: that of the run, unless overridden."""

    max_new_tokens: int = II("sampling.max_new_tokens")
    temperature: float = II("sampling.temperature")
    top_p: float = II("sampling.top_p")
    top_k: int = II("sampling.top_k")
    stop: list[str] = II("sampling.stop")


@dataclass(kw_only=True)
class PhaseConfig:
    """A phase after the first. `start` is an iteration, or a condition: `{name: drop, by: 0.1}`."""

    objective: Any = None
    start: Any = field(default=MISSING, metadata={"needs": "the iteration in which it begins, or a condition"})
    lr: float = II("optimizer.lr")
    schedule: str = II("optimizer.schedule")
    warmup: int = II("optimizer.warmup")
    reset_optimizer: bool = True
    sync_reference: bool = True
    sampling: PhaseSamplingConfig = field(default_factory=PhaseSamplingConfig)


@dataclass(kw_only=True)
class EvaluationSchema:
    """The root of an evaluation (`python -m dsrl.evaluate`)."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: Any = None
    sampler: Any = None
    verifier: Any = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    checkpoint: str | None = None  # of a run: its weights in place of those that model.name has
    k: int | None = None  # answers to each question; null: as often as its file repeats it, else 8
    limit: int | None = None  # only the first questions of each set
    questions_per_batch: int = 16  # sampled, checked and written together
    accelerator: str = "auto"
    seed: int = 0
    run_dir: str = "runs/latest"
    resume: str | None = None


@dataclass(kw_only=True)
class TrainSchema:
    """The root."""

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
    iterations: int = 40
    prompts_per_iteration: int = 64  # B
    responses_per_prompt: int = 8  # G
    dynamic_sampling: int = (
        0  # how often groups whose rewards are all equal are replaced by another question's, at most
    )
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    mismatch: MismatchConfig = field(default_factory=MismatchConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    logged_samples: int = 8  # rollouts of each iteration that are written to samples.jsonl
    seed: int = 0
    run_dir: str = "runs/latest"
    resume: str | None = None
