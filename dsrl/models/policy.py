"""Compute the log-probabilities of responses after any context: what every space and objective asks of the model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dsrl.models.head import TokenScores, score_hidden, score_in_chunks
from dsrl.models.lora import merge_adapters
from dsrl.parallel.sharding import full_parameters, is_sharded, unwrapped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


class Policy(nn.Module):
    """Wrap a causal language model so that it scores responses.

    Dropout is turned off for good: the model that is scored must be the model that sampled.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        _turn_dropout_off(model)
        self.chunks = score_in_chunks(unwrapped(model))
        if not self.chunks:
            logger.warning("%s is scored with the logits of all tokens in memory", type(unwrapped(model)).__name__)

    def forward(
        self, contexts: Sequence[Sequence[int]], tokens: Tensor, mask: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Compute the log-probabilities [N, T] of responses; arguments are those of `score`."""
        return self.score(contexts, tokens, mask, temperature).logprobs

    def score(
        self, contexts: Sequence[Sequence[int]], tokens: Tensor, mask: Tensor, temperature: float = 1.0
    ) -> TokenScores:
        """Compute log P(token | context, tokens before it) of every response token, and the entropy there.

        Positions start at 0 with the context. No more than a chunk of logits is held at a time (`dsrl.models.head`).

        Args:
            contexts: N sequences of token ids, at least one id each.
            tokens: [N, T] long, responses padded on the right.
            mask: [N, T] bool, true on response tokens.
            temperature: the logits are divided by it; that of sampling.

        Returns:
            Both [N, T], 0 where the mask is false: float64 of a float64 model, otherwise float32.
        """
        contexts_ids, context_mask = left_pad(contexts, tokens.device)  # so that responses share their columns
        inputs = torch.cat([contexts_ids, tokens[:, :-1]], dim=1)
        seen = torch.cat([context_mask, torch.ones_like(mask[:, :-1])], dim=1)
        ragged = not bool(context_mask.all())  # padding on the right comes after all that counts: causality hides it
        given = {
            "input_ids": inputs,
            "attention_mask": seen.long() if ragged else None,
            "position_ids": (seen.long().cumsum(-1) - 1).clamp(min=0),
            "use_cache": False,
        }
        if self.chunks:
            scores: TokenScores = self.model(**given, tokens=tokens, mask=mask, temperature=temperature)
            return scores
        length = mask.shape[1]
        logits = self.model(**given, logits_to_keep=length).logits
        logits = logits[:, logits.shape[1] - length :]  # of no token at all, the model keeps every position
        return score_hidden(lambda part: part, logits, tokens, mask, temperature, vocabulary=logits.shape[-1])

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the model's full parameters by their Hugging Face names, adapters merged, one at a time.

        Tied weights come once. If ranks hold parts (`sharded`) this is a collective: every rank takes every tensor.
        """
        yield from merge_adapters(self.model, full_parameters(self.model))

    @property
    def sharded(self) -> bool:
        """Tell whether this rank holds only a part of the weights, so that a forward is a collective."""
        return is_sharded(self.model)

    @property
    def positions(self) -> int | None:
        """How many tokens the model has positions for; None: any number."""
        found: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return found

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.model.device


def left_pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Pad N sequences of token ids on the left with 0. Returns ids [N, P] long and their mask [N, P] bool."""
    width = max(map(len, sequences))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in sequences], device=device)
    lengths = torch.tensor([len(row) for row in sequences], device=device)
    return ids, torch.arange(width, device=device) >= (width - lengths)[:, None]


def _turn_dropout_off(model: nn.Module) -> None:
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and ("dropout" in name or (name == "p" and isinstance(module, nn.Dropout))):
                setattr(module, name, 0.0)
