"""Pre-training of a world's model, in stages.

A model learns a skill from the text that has it, and a habit from the text that comes last. Text with few retries alone
teaches attempts that copy each other and check nothing; so the model of the world of guesses sees many first, then few.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.progress import track
from transformers import BatchEncoding, LlamaForCausalLM, PreTrainedTokenizerFast

from dsrl.worlds.small_model import build_model, build_tokenizer
from dsrl.worlds.world import World


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Say how a stretch of pre-training goes."""

    steps: int
    """Optimizer steps, a batch of fresh text each."""
    lr: float
    """The peak learning rate; it warms up over a twentieth of the steps, then decays to 0 (cosine)."""
    retry_rate: float
    """What failed in the text is tried again with this probability."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Say how the model of a world is pre-trained."""

    stages: Sequence[Stage]
    """One after the other, each with an optimizer of its own."""
    batch_size: int
    """Lines of text in a batch."""
    initializer_range: float = 0.02
    """Standard deviation of the fresh weights."""
    passes: int = 1
    """Passes over parts of a batch, each of lines of like lengths, so that little is padded; the gradient is the same.
    """


RECIPES = {
    "arithmetic": Recipe(stages=(Stage(steps=1500, lr=3e-3, retry_rate=0.3),), batch_size=64),
    "retry": Recipe(
        stages=(Stage(steps=1200, lr=2e-3, retry_rate=0.9), Stage(steps=150, lr=3e-4, retry_rate=0.15)),
        batch_size=16,
        initializer_range=0.06,
        passes=2,
    ),
}
"""How the embedded model of each world was trained."""


def pretrain(world: World, recipe: Recipe, seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Train a fresh model on every token of a world's text.

    The text is fresh in every batch, and a part of it has no question in front: `<bos>trace<eos>` beside `<bos>question
    trace<eos>`. The same arguments, `seed` of weights and text among them, give the same bits on one machine with the
    same number of threads.
    """
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), seed, world.max_new_tokens, recipe.initializer_range).train()
    rng = random.Random(seed)
    for stage in recipe.stages:
        optimizer = torch.optim.AdamW(model.parameters(), lr=stage.lr, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_and_cosine(stage.steps))
        for _ in track(range(stage.steps), description=f"retries {stage.retry_rate:g}"):
            text = [world.write_line(rng, stage.retry_rate) for _ in range(recipe.batch_size)]
            _backward(model, tokenizer, text, recipe.passes)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return model.eval(), tokenizer


def _warmup_and_cosine(steps: int) -> Callable[[int], float]:
    """Make the factor of the learning rate at each step: up over a twentieth of them, then down to 0."""
    warmup = max(1, steps // 20)
    return lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def _backward(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, text: list[str], passes: int) -> None:
    """Add the gradient of the mean loss over all tokens of a batch, part by part."""
    text = sorted(text, key=len) if passes > 1 else text
    cuts = [len(text) * n // passes for n in range(passes + 1)]
    parts = [_encode(tokenizer, text[start:end]) for start, end in itertools.pairwise(cuts)]
    predicted = [int(part["attention_mask"][:, 1:].sum()) for part in parts]
    for part, count in zip(parts, predicted, strict=True):
        (model(**part, use_cache=False).loss * (count / sum(predicted))).backward()


def _encode(tokenizer: PreTrainedTokenizerFast, text: list[str]) -> BatchEncoding:
    """Encode lines, padded on the right [lines, length]; every token that is no padding is a label."""
    batch: BatchEncoding = tokenizer(
        text, padding=True, padding_side="right", return_tensors="pt", return_token_type_ids=False
    )
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    return batch
