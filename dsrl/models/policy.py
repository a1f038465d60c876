"""The model, and log-probabilities of responses after any context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsrl.models.lora import merged
from dsrl.parallel.sharding import full_parameters, is_sharded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Policy(nn.Module):
    """A causal language model that scores responses, without dropout: what samples and what is scored are the same."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        _turn_dropout_off(model)

    def forward(
        self, contexts: Sequence[Sequence[int]], tokens: Tensor, mask: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """log P(token | context, tokens before it) at the sampling temperature, [N, T], 0 where mask is false.

        contexts: N sequences of at least one token id each. tokens, mask [N, T]: responses, padded on the right.
        Positions start at 0 with the context; contexts are padded on the left, so that responses share their columns.
        Float32, whatever narrower type the model computes in; float64 of a float64 model.
        """
        contexts_ids, context_mask = left_pad(contexts, tokens.device)
        inputs = torch.cat([contexts_ids, tokens[:, :-1]], dim=1)
        seen = torch.cat([context_mask, torch.ones_like(mask[:, :-1])], dim=1)
        ragged = not bool(context_mask.all())  # padding on the right comes after all that counts: causality hides it
        logits = self._response_logits(
            inputs,
            attention_mask=seen.long() if ragged else None,
            position_ids=(seen.long().cumsum(-1) - 1).clamp(min=0),
            length=tokens.shape[1],
        )
        # Padding is left out before the softmax over V, the largest tensor of a pass.
        chosen = F.cross_entropy(_tempered(logits[mask], temperature), tokens[mask], reduction="none")
        return chosen.new_zeros(mask.shape).masked_scatter(mask, -chosen)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The model's parameters by their Hugging Face names, whole and with adapters merged, one at a time.

        Tied weights come once. A collective where ranks hold parts (`sharded`): every rank takes every tensor.
        """
        yield from merged(self.model, full_parameters(self.model))

    @property
    def sharded(self) -> bool:
        """Whether this rank holds only a part of the weights, so that a forward is a collective."""
        return is_sharded(self.model)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    def _response_logits(self, inputs: Tensor, *, length: int, **rest: Tensor | None) -> Tensor:
        """Logits that predict the last `length` tokens, [N, T, V]; the head sees no other position."""
        logits: Tensor = self.model(input_ids=inputs, use_cache=False, logits_to_keep=length, **rest).logits
        return logits[:, logits.shape[1] - length :]  # of no token at all, the model keeps every position


def left_pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [N, P] padded on the left with 0, and their mask [N, P] bool."""
    width = max(map(len, sequences))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in sequences], device=device)
    lengths = torch.tensor([len(row) for row in sequences], device=device)
    return ids, torch.arange(width, device=device) >= (width - lengths)[:, None]


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if temperature == 1.0 else logits / temperature


def _turn_dropout_off(model: nn.Module) -> None:
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and ("dropout" in name or (name == "p" and isinstance(module, nn.Dropout))):
                setattr(module, name, 0.0)
