"""What makes one more token cheap with plain transformers: keys and values written in place, attention without copies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

ATTENTION = "dsrl_decoding"
ROOM = 64  # tokens by which a full buffer grows at least, and then by half of what it holds


class DecodingCache(DynamicCache):
    """Keys and values of a shrinking batch.

    A layer of full attention holds them in a buffer with room for tokens to come; layers of other kinds (sliding
    windows, state spaces) are those of transformers.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config=config)  # type: ignore[no-untyped-call]
        self.layers = [Buffered() if type(layer) is DynamicLayer else layer for layer in self.layers]


class Buffered(DynamicLayer):
    """One layer: `keys` and `values` [rows, heads, length, head dimension] are views of larger buffers."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take what the prompts give as it is; there is no room yet."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.buffers = [part.new_empty(*part.shape[:2], 0, part.shape[3]) for part in (key_states, value_states)]
        self.is_initialized = True
        self._show(len(key_states), 0)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the keys and values of further tokens behind those that are there."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, before, new = len(key_states), self.keys.shape[2], key_states.shape[2]
        if before + new > self.buffers[0].shape[2]:
            # Exactly the prompt at first, since it is repeated before the first new token.
            self._allocate(rows, before + new + (max(ROOM, before // 2) if before else 0))
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, before : before + new] = states
        self._show(rows, before + new)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row `repeats` times, with room for the tokens to come."""
        length = self.keys.shape[2]
        shown = self.keys, self.values
        self.buffers = [
            part.new_empty(len(part) * repeats, part.shape[1], length + max(ROOM, length // 2), part.shape[3])
            for part in shown
        ]
        for buffer, part in zip(self.buffers, shown, strict=True):
            buffer[:, :, :length].unflatten(0, (len(part), repeats)).copy_(part[:, None])
        self._show(len(shown[0]) * repeats, length)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Row j becomes what row `indices[j]` was; only rows that change their place are copied."""
        length, moved = self.keys.shape[2], indices != torch.arange(len(indices), device=indices.device)
        for buffer in self.buffers:
            buffer[: len(indices), :, :length][moved] = buffer[indices[moved], :, :length]
        self._show(len(indices), length)

    def _allocate(self, rows: int, capacity: int) -> None:
        length = self.keys.shape[2]
        for number, part in enumerate((self.keys, self.values)):
            grown = part.new_empty(rows, part.shape[1], capacity, part.shape[3])
            grown[:, :, :length] = part
            self.buffers[number] = grown
        self._show(rows, length)

    def _show(self, rows: int, length: int) -> None:
        self.keys, self.values = (buffer[:rows, :, :length] for buffer in self.buffers)


@contextmanager
def decoding_attention(model: PreTrainedModel) -> Iterator[None]:
    """Attention of one token without a copy of its keys, where the model uses sdpa; afterwards as it was."""
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
    """sdpa in which, for one token a row, the query heads that share a key head are its queries.

    query [N, heads, 1, D], key and value [N, key heads, L, D]. The same sums as with the keys repeated for every query
    head, which is what transformers does under a mask, and which costs more than the rest of a step.
    """
    grouped = query.shape[2] == 1 and query.shape[1] > key.shape[1] and rest.get("position_bias") is None
    if not grouped:
        found: tuple[Tensor, Tensor | None] = sdpa_attention_forward(module, query, key, value, attention_mask, **rest)  # type: ignore[no-untyped-call]
        return found
    output = nn.functional.scaled_dot_product_attention(
        query.unflatten(1, (key.shape[1], -1)).squeeze(3),
        key,
        value,
        attn_mask=attention_mask,
        scale=rest.get("scaling"),
    )
    return output.flatten(1, 2)[:, None], None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
