"""The model: which, in which form, and the defaults that fit it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import MISSING

from dsrl.config.settled import Settled


@dataclass(kw_only=True)
class LoraConfig(Settled):
    """Adapters: small trainable matrices beside frozen weights."""

    rank: int = 0
    """Rank of the adapters; 0 trains all weights instead."""
    alpha: int = 32
    """Scale: the product of the two matrices is multiplied by alpha / rank."""
    target_modules: Any = "all-linear"
    """Layers that get adapters: all-linear, a list of names, or a regular expression."""
    target_parameters: Any = None
    """Parameters that get adapters and are no layers, such as stacked experts: [experts.down_proj]."""


@dataclass(kw_only=True)
class ModelConfig(Settled):
    """A causal language model, and the defaults that fit it."""

    name: str = field(
        default=MISSING, metadata={"needs": "tiny, retry, smollm2, a folder, or a name on the Hugging Face hub"}
    )
    """Model: tiny, retry, smollm2, a folder, or a name on the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: str = "float32"
    """Type of the weights: float32, bfloat16, float16; trainer.precision says that of the compute."""
    attn_implementation: str = "sdpa"
    """Attention: sdpa (eager where sdpa would drop something), eager, flash_attention_2 or _3, flex_attention."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, to save memory."""
    activation_offloading: bool = False
    """Keep what gradient checkpointing saves, the inputs of blocks, in the CPU's memory."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    chat: bool = True
    """Ask with the tokenizer's chat template, where it has one."""
    chat_options: dict[str, Any] = field(default_factory=lambda: {"enable_thinking": False})
    """Arguments of the chat template."""
    chat_date: str | None = None
    """Date, such as 2026-11-30, for chat templates that write the day's; null: the day on which the run began."""
    start_token: str | int | None = None
    """Token that P(y) starts from; null: what opens the chat template, where that is used, else BOS, else EOS."""
    thoughts: Any = "seal"
    """Thoughts that fit the model's texts: the default of thoughts."""
    lr: float = 1e-6
    """Learning rate that fits the model: the default of optimizer.lr."""
    phase1_iterations: int = 20
    """Iterations of phase 1 that fit the model: the default of phase2.start."""
    max_new_tokens: int = 1024
    """Length of a response that fits the model: the default of sampling.max_new_tokens."""

    def plain(self) -> ModelConfig:
        """Return the same model without adapters and what training alone needs."""
        return replace(self, lora=LoraConfig(), gradient_checkpointing=False, activation_offloading=False)
