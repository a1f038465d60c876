"""Compute the log-probabilities of responses after any context: what every space and objective asks of the model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from dsrl.models.buffers import persistent_buffers
from dsrl.models.head import Reader, TokenScores, score_hidden, score_in_chunks
from dsrl.models.lora import has_adapters, merge_adapters
from dsrl.models.positions import fix_positions
from dsrl.models.rows import BY_BLOCKS, BY_MASK, BY_POSITIONS, RowCost, Rows, lay_out
from dsrl.parallel.collectives import all_max
from dsrl.parallel.sharding import compute_device, full_parameters, is_sharded, parameter_count, unwrapped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


class Policy(nn.Module):
    """Wrap a causal language model so that it scores responses.

    It computes as in evaluation mode, also while it is trained: the model that is scored must be the model that
    sampled. In training mode there is dropout, some models leave out layers (OPT) or draw the experts of a token at
    random (Phi-3.5-MoE), and Gemma-3n clips weights.
    """

    def __init__(self, model: PreTrainedModel, saving: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        """Wrap a model.

        Args:
            model: the model, as the strategy placed it.
            saving: makes the context of a pass, which says where its tensors wait for the backward pass.
        """
        super().__init__()
        self.model, self.saving = model, saving
        self.longest: int | None = None
        _turn_dropout_off(model)
        self.train(model.training)
        self.chunks = score_in_chunks(unwrapped(model))
        if not self.chunks:
            logger.warning("%s is scored with the logits of all tokens in memory", type(unwrapped(model)).__name__)

    def read_up_to(self, longest: int) -> None:
        """Get ready for sequences of up to `longest` tokens, a prompt and its response together. Raises ConfigError
        where the model's positions depend on it, and cannot be the same for all sequences (`dsrl.models.positions`).
        """
        self.longest = longest
        fix_positions(unwrapped(self.model), longest)

    def train(self, mode: bool = True) -> Self:
        """Set the mode. In training mode activations are checkpointed where that is asked for; the rest computes as in
        evaluation.
        """
        super().train(mode)
        if mode:
            for module in self.model.modules():
                module.training = bool(getattr(module, "gradient_checkpointing", False))
        return self

    def forward(
        self, contexts: Sequence[Sequence[int]], tokens: Tensor, mask: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Compute the log-probabilities [N, T] of responses; arguments are those of `score`."""
        return self.score(contexts, tokens, mask, temperature, entropy=False).logprobs

    def score(
        self,
        contexts: Sequence[Sequence[int]],
        tokens: Tensor,
        mask: Tensor,
        temperature: float = 1.0,
        *,
        together: Sequence[Sequence[int]] | None = None,
        packed: bool = False,
        entropy: bool = True,
        device: torch.device | None = None,
    ) -> TokenScores:
        """Compute log P(token | context, tokens before it) of every response token, and the entropy there.

        Positions start at 0 with the context. No more than a chunk of logits is held at a time (`dsrl.models.head`).

        Args:
            contexts: N sequences of token ids, at least one id each.
            tokens: [N, T] long, responses padded on the right.
            mask: [N, T] bool, true on response tokens.
            temperature: the logits are divided by it; that of sampling.
            together: the numbers of the responses that read their common context once, of each row; by default each
                is alone. Only for a model that `shares_contexts`.
            packed: all rows in one, without padding. Only for a model that `packs`.
            entropy: whether to compute it; else it is 0.
            device: where the pass runs; by default where the tokens are.

        Returns:
            Both [N, T], 0 where the mask is false: float64 of a float64 model, otherwise float32.
        """
        device = device or tokens.device
        rows = lay_out(contexts, tokens.cpu(), mask.cpu(), together=together, packed=packed).to(device)
        of_head: dict[str, Any] = {"temperature": temperature, "entropy": entropy}
        read = partial(
            score_hidden, predicting=rows.predicting, tokens=tokens.to(device), mask=mask.to(device), **of_head
        )
        scores: TokenScores = self.read(rows, read)
        return scores

    def read(self, rows: Rows, read: Reader) -> Any:
        """Run a forward over rows, and return what `read(logits_of, hidden, vocabulary=V)` makes of the hidden states.

        `logits_of` goes from hidden states [n, t, H] to logits [n, t, V]. Of a model whose head cannot be applied
        alone, `hidden` are the logits themselves, and there is no `vocabulary`.
        """
        dtype = self._compute_dtype(rows.input_ids.device)
        given = rows.arguments(self.model.config, dtype) | {"use_cache": False}
        with self.saving():
            if self.chunks:
                return self.model(**given, read=read)
            return read(lambda part: part, self.model(**given).logits.flatten(0, 1))

    @torch.no_grad()
    def named_tensors(self, dtype: torch.dtype | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield what a file of the model holds, by Hugging Face names and one at a time: its full parameters, adapters
        merged, then its persistent buffers, such as the scales of Gemma-4's layers.

        Tied weights come once. If ranks hold parts (`sharded`) this is a collective: every rank takes every tensor.
        With a `dtype` they are cast, before ranks exchange them where that gives the same: not before adapters are
        merged.
        """
        early = None if has_adapters(self.model) else dtype
        for name, tensor in merge_adapters(self.model, full_parameters(self.model, early)):
            yield name, tensor.to(dtype)
        yield from persistent_buffers(self.model)

    @cached_property
    def shares_contexts(self) -> bool:
        """Tell whether responses can read their common context once. The first time, it is tried: a forward.

        Models with a recurrent state, or with positions of their own kind, cannot.
        """
        attention = self.model.config._attn_implementation
        return attention in (*BY_MASK, *BY_BLOCKS) and self._keeps_apart(
            together=[[0, 1], [2, 3]], packed=attention in BY_BLOCKS
        )

    @cached_property
    def packs(self) -> bool:
        """Tell whether sequences can stand behind one another in one row, at no cost of attention between them. The
        first time, it is tried: a forward.
        """
        attention = self.model.config._attn_implementation
        return attention in (*BY_POSITIONS, *BY_BLOCKS) and self._keeps_apart(packed=True)

    @torch.no_grad()
    def _keeps_apart(self, **layout: Any) -> bool:
        """Try a layout of rows on a few tokens: whether it changes log-probabilities far less than the context does.

        Sliding windows are three tokens wide meanwhile, so that they are tried, too. All ranks come to one verdict.
        """
        model, text = unwrapped(self.model), self.model.config.get_text_config()
        kinds = set(getattr(text, "layer_types", None) or ())
        if not kinds <= {"full_attention", "sliding_attention"} or not model._supports_attention_backend:
            return False
        tokens = torch.arange(4 * 6, device=self.device).view(4, 6) * 7 % text.vocab_size
        mask = torch.arange(6, device=self.device) < torch.tensor([6, 4, 5, 3], device=self.device)[:, None]
        one, other = [tokens[0, :3].tolist()] * 2, [tokens[1, :5].tolist()] * 2
        window, training = getattr(text, "sliding_window", None), self.training
        self.eval()
        try:
            if window is not None:
                text.sliding_window = 3
            expected = self(one + other, tokens, mask)
            found = self.score(one + other, tokens, mask, **layout, entropy=False).logprobs
            of_context = (self(other + one, tokens, mask) - expected).abs().max()
            apart = bool((found - expected).abs().max() <= 0.05 * of_context)
        except (ValueError, TypeError, RuntimeError, LookupError, AttributeError, AssertionError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            logger.debug("%s takes no rows of several sequences: %s", type(model).__name__, error)
            apart = False
        finally:
            self.train(training)
            if window is not None:
                text.sliding_window = window
        return not all_max(float(not apart))

    def _compute_dtype(self, device: torch.device) -> torch.dtype:
        if torch.is_autocast_enabled(device.type):
            return torch.get_autocast_dtype(device.type)
        return next(self.model.parameters()).dtype

    @cached_property
    def row_cost(self) -> RowCost:
        """What a row costs in a forward. A collective the first time, where weights are sharded."""
        return RowCost.of_model(unwrapped(self.model), parameter_count(self.model))

    @property
    def sharded(self) -> bool:
        """Tell whether this rank holds only a part of the weights, so that a forward is a collective."""
        return is_sharded(self.model)

    @property
    def positions(self) -> int | None:
        """How many tokens the model has positions for; None: any number."""
        found: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return found

    @property
    def embeddings(self) -> int:
        """How many tokens the model has embeddings for."""
        found: int = self.model.config.get_text_config().vocab_size
        return found

    @property
    def device(self) -> torch.device:
        """The device on which the model computes; weights may wait in the CPU's memory (`trainer.cpu_offload`)."""
        return compute_device(self.model)


def _turn_dropout_off(model: nn.Module) -> None:
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and ("drop" in name or (name == "p" and isinstance(module, nn.Dropout))):
                setattr(module, name, 0.0)
