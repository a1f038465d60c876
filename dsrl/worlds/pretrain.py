"""Pre-train a small model for a world: `python -m dsrl.worlds.pretrain WORLD OUT [--FIELD VALUE ...]`.

    python -m dsrl.worlds.pretrain retry OUT                                the embedded model of the world of guesses
    python -m dsrl.worlds.pretrain retry OUT --guesses 3 --restated 0.5     one of another such world

The text is the world's; a part of it has no question in front, so the model knows P(y) as well as P(y|x):
`<bos>trace<eos>` beside `<bos>question trace<eos>`. No held-out question is ever used. The same arguments give the same
bits on one machine.

Training goes in stages, each with its own rate of retries. A model learns a skill from the text that has it, and a habit
from the text that comes last: text with few retries alone teaches attempts that copy each other and check nothing.

OUT holds the model, its tokenizer, the world that it is of (`world.json`) and a card.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import track
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from dsrl.config.help import attribute_docs
from dsrl.errors import ConfigError, print_error
from dsrl.worlds import WORLDS, World, save_world
from dsrl.worlds.admission import measure_admission
from dsrl.worlds.small_model import build_model, build_tokenizer


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Say how a stretch of pre-training goes."""

    steps: int
    """Optimizer steps, a batch of fresh text each."""
    lr: float
    """The peak learning rate; it warms up over a twentieth of the steps, then decays to 0 (cosine)."""
    retry_rate: float
    """What failed in the text is tried again with this probability."""


STAGES = {
    "arithmetic": (Stage(steps=1500, lr=3e-3, retry_rate=0.3),),
    "retry": (Stage(steps=600, lr=2e-3, retry_rate=0.7), Stage(steps=150, lr=5e-4, retry_rate=0.15)),
}
"""How the models of each world are trained: those of `arithmetic` in one stage, those of `retry` first for the skill of
trying again, and then for the habit of seldom doing so."""


def pretrain(
    world: World, stages: Sequence[Stage], *, seed: int = 0, batch_size: int = 64
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Train a fresh model on every token of fresh text.

    Args:
        world: writes the text.
        stages: one after the other, each with an optimizer of its own.
        seed: of weights and text.
        batch_size: lines of text in a batch.
    """
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), seed, world.max_new_tokens).train()
    rng = random.Random(seed)
    for stage in stages:
        _train(model, tokenizer, world, stage, rng, batch_size)
    return model.eval(), tokenizer


def _train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    stage: Stage,
    rng: random.Random,
    batch_size: int,
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.lr, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = max(1, stage.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / stage.steps))
    )
    for _ in track(range(stage.steps), description=f"retries {stage.retry_rate:g}"):
        text = [world.write_line(rng, stage.retry_rate) for _ in range(batch_size)]
        batch = tokenizer(text, padding=True, padding_side="right", return_tensors="pt", return_token_type_ids=False)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)  # [batch, length]
        loss = model(**batch, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
