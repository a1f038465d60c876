"""Make one more token cheap with plain transformers: keys and values in place, attention without copies of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from dsrl.models.families import cache_argument
from dsrl.types import Prompt

ATTENTION = "dsrl_decoding"


class DecodingCache(DynamicCache):
    """Hold the keys and values of a batch that shrinks.

    A layer of full attention keeps them in a buffer with room for tokens to come. Layers of other kinds (sliding
    windows, state spaces) are those of transformers.

    Args:
        config: of the model.
        longest: the most tokens of a row, prompt and response together.
    """

    def __init__(self, config: PreTrainedConfig, longest: int) -> None:
        super().__init__(config=config)
        for number, layer in enumerate(self.layers):
            if type(layer) is DynamicLayer:
                self.layers[number] = BufferedLayer(longest)

    def repeat(self, rows: int, repeats: int) -> None:
        """Repeat each of the rows, and make room for tokens to come."""
        layer: Any
        for layer in self.layers:
            if isinstance(layer, LinearAttentionCacheLayerMixin):
                layer.reorder_cache(torch.arange(rows).repeat_interleave(repeats))  # type: ignore[arg-type]
            else:
                layer.batch_repeat_interleave(repeats)

    def select(self, indices: Tensor) -> None:
        """Make row j what row `indices[j]` was."""
        layer: Any
        for layer in self.layers:
            if isinstance(layer, LinearAttentionCacheLayerMixin):  # which has its own method for states alone
                layer.reorder_cache(indices)  # type: ignore[arg-type]
            else:
                layer.batch_select_indices(indices)


class BufferedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Hold one layer: `keys` and `values` [rows, heads, length, head dimension] are views of two larger buffers.

    No buffer has room for more than `longest` tokens a row.
    """

    def __init__(self, longest: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.longest = longest

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make empty buffers for keys and values of these shapes."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.buffers = [states[:, :, :0] for states in (key_states, value_states)]
        self.is_initialized = True
        self._show(len(key_states), 0)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the keys and values of further tokens; returns those of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before, after = self.length, self.length + key_states.shape[2]
        if after > self.buffers[0].shape[2]:
            self._allocate(1, self._roomy(after) if before else after)  # a prompt is copied before its first response
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[: self.rows, :, before:after] = states
        return self._show(self.rows, after)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row, and make room for tokens to come."""
        self._allocate(repeats, self._roomy(self.length))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Make row j what row `indices[j]` was. Only rows that change their place are copied."""
        moved = indices != torch.arange(len(indices), device=indices.device)
        for buffer in self.buffers:
            buffer[: len(indices), :, : self.length][moved] = buffer[indices[moved], :, : self.length]
        self._show(len(indices), self.length)

    def _allocate(self, repeats: int, capacity: int) -> None:
        """Move to buffers of `capacity` tokens, with every row `repeats` times."""
        for number, old in enumerate(self.buffers):
            new = old.new_empty(self.rows, repeats, old.shape[1], capacity, old.shape[3])
            new[:, :, :, : self.length] = old[: self.rows, None, :, : self.length]
            self.buffers[number] = new.flatten(0, 1)
        self._show(self.rows * repeats, self.length)

    def _roomy(self, length: int) -> int:
        """Say how many tokens a buffer is made for that must hold `length`: half as many more, so that copies cost
        little for each token."""
        return max(length, min(length + max(64, length // 2), self.longest))

    def _show(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        self.rows, self.length = rows, length
        keys, values = (buffer[:rows, :, :length] for buffer in self.buffers)
        self.keys, self.values = keys, values
        return keys, values


@dataclass(kw_only=True)
class ReadPrompts:
    """What decoding starts from: B prompts that the model has read."""

    prompts: list[Prompt]
    logits: Tensor
    """[B, V], of the first token of a response."""
    cache: DecodingCache
    seen: Tensor
    """[B, P] bool, true on tokens of prompts, false on padding."""
    position: Tensor
    """[B, 1] long, of each prompt's last token."""


def left_pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Pad N sequences of token ids on the left with 0. Returns ids [N, P] long and their mask [N, P] bool."""
    width = max(map(len, sequences))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in sequences], device=device)
    lengths = torch.tensor([len(row) for row in sequences], device=device)
    return ids, torch.arange(width, device=device) >= (width - lengths)[:, None]


def read_prompts(model: PreTrainedModel, prompts: list[Prompt], longest: int) -> ReadPrompts:
    """Run B prompts through the model, once. `longest`: the most tokens of a prompt and its response together."""
    ids, seen = left_pad([prompt.token_ids for prompt in prompts], model.device)
    position = seen.long().cumsum(-1).sub(1).clamp(min=0)
    cache = DecodingCache(model.config, longest)
    logits = next_logits(model, ids, position, None if seen.all() else seen, cache)
    return ReadPrompts(prompts=prompts, logits=logits, cache=cache, seen=seen, position=position[:, -1:])


def next_logits(
    model: PreTrainedModel, ids: Tensor, position: Tensor, seen: Tensor | None, cache: DecodingCache
) -> Tensor:
    """Run tokens through the model, after those in the cache, which grows by them: logits [N, V] of the next token.

    Args:
        model: one whose cache is of transformers (`dsrl.models.families.cannot_decode`).
        ids: [N, t] long.
        position: [N, t] long, of each token in its row.
        seen: [N, L] bool, false on padding, of all tokens so far; None: there is no padding.
        cache: of the rows.
    """
    argument = cache_argument(type(model))
    assert argument is not None
    output = model(
        input_ids=ids,
        attention_mask=seen if seen is None else seen.long(),
        position_ids=position,
        use_cache=True,
        logits_to_keep=1,
        **{argument: cache},
    )
    logits: Tensor = output.logits[:, -1]
    return logits


@contextmanager
def decoding_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let a model that uses sdpa attend from one token without copies of its keys; afterwards as it did before."""
    before = model.config._attn_implementation
    if before != "sdpa":
        yield
        return
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, Tensor | None]:
    """Compute sdpa; for one token a row, take the query heads that share a key head as queries of that head.

    The sums are those of transformers, which repeats the keys for every query head if there is a mask. That copy
    costs more than the rest of a step.

    Args:
        module: the attention layer.
        query: [N, heads, 1, D].
        key, value: [N, key heads, L, D].
        attention_mask: what sdpa takes, or None.
        rest: passed on.
    """
    grouped = query.shape[2] == 1 and query.shape[1] > key.shape[1] and rest.get("position_bias") is None
    grouped = grouped and (attention_mask is None or attention_mask.shape[1] == 1)  # Doge has one for each head
    if not grouped:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
    output = nn.functional.scaled_dot_product_attention(
        query.view(len(query), key.shape[1], -1, query.shape[3]),
        key,
        value,
        attn_mask=attention_mask,
        scale=rest.get("scaling"),
    )
    return output.flatten(1, 2)[:, None], None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
