"""Lay contexts and responses out as the rows of a forward: padding on the right, a shared context read once.

Causality hides what is on the right. So rows of one sequence each need no mask: every kernel of attention takes them,
and every model with a recurrent state. Responses may share their context: such a row is the context and the responses
behind one another, each with the positions that follow the context, and a mask keeps the responses apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

BY_POSITIONS = ("flash_attention_2", "flash_attention_3", "flash_attention_4")
"""Attention that keeps the sequences of a row apart by their positions, which begin at 0 with each."""
BY_BLOCKS = ("flex_attention",)
"""Attention that takes any mask, and computes no block that it hides."""
BY_MASK = ("sdpa",)
"""Attention that takes any mask, and computes what it hides. `eager` does, too, and keeps every score that it hides."""


class RowCost(NamedTuple):
    """What a row costs in a forward: floating point operations of each token, and of attention for each pair of tokens.

    Attention whose kernel knows a mask only as numbers computes what is hidden, too.
    """

    token: float = 1.0
    pair: float = 0.0

    @classmethod
    def of_model(cls, model: PreTrainedModel, parameters: int) -> RowCost:
        """Estimate it: two operations for each parameter that a token passes, four for each pair and attention width.

        Args:
            model: whose configuration says its layers and experts.
            parameters: how many the full model has.
        """
        config = model.config.get_text_config()
        active = parameters * _active_share(model)
        if not getattr(config, "tie_word_embeddings", False):
            active -= config.vocab_size * config.hidden_size  # the embeddings, which are looked up
        heads = getattr(config, "num_attention_heads", None) or 0  # none in a model without attention
        width = getattr(config, "head_dim", None) or config.hidden_size // max(1, heads)
        return cls(2.0 * active, 4.0 * config.num_hidden_layers * heads * width)

    def of(self, context: int, responses: Sequence[int], *, hidden_too: bool) -> float:
        """Say what a context and responses [tokens each] cost in one row.

        hidden_too: whether attention between responses, which a mask hides, is computed.
        """
        tokens, pairs = context + sum(responses), 0.0
        if len(responses) == 1:
            pairs = tokens * tokens / 2
        elif hidden_too:
            pairs = float(tokens * tokens)
        else:
            pairs = context * context / 2 + sum(context * length + length * length / 2 for length in responses)
        return self.token * tokens + self.pair * pairs


def _active_share(model: PreTrainedModel) -> float:
    """The share of a model's parameters that a token passes: of experts, those that it is routed to."""
    chosen = share_of_experts(model.config.get_text_config())
    sizes = [(".experts." in name, parameter.numel()) for name, parameter in model.named_parameters()]
    routed = sum(size for is_routed, size in sizes if is_routed) / sum(size for _, size in sizes)
    return 1.0 - routed + routed * chosen


def share_of_experts(config: PreTrainedConfig) -> float:
    """Give the share of a layer's experts that a token is routed to; 1 without experts."""
    chosen = getattr(config, "num_experts_per_tok", None)
    for name in ("num_experts", "num_local_experts", "n_routed_experts"):
        if chosen and (experts := getattr(config, name, None)):
            return float(chosen / experts)
    return 1.0


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The input of a forward over n responses.

    Args:
        input_ids: [R, L] long.
        predicting: [n, T] long, the places in R * L of the tokens that predict the responses' tokens.
        positions: [R, L] long, from 0 in each context; None where each row is one sequence, and needs no mask.
        segments: [R, L] long, a number for each context and for each response; -1 on padding.
        parents: [R, L] long, the segment of the context of each token.
    """

    input_ids: Tensor
    predicting: Tensor
    positions: Tensor | None = None
    segments: Tensor | None = None
    parents: Tensor | None = None

    def to(self, device: torch.device) -> Rows:
        """Move it to a device."""
        moved: dict[str, Any] = {
            name: value if value is None else value.to(device) for name, value in vars(self).items()
        }
        return Rows(**moved)

    def arguments(self, config: PreTrainedConfig, dtype: torch.dtype) -> dict[str, Any]:
        """Give the arguments of a model's forward, in the form that its kind of attention takes.

        Args:
            config: of the model.
            dtype: of a mask, which is added to scores: that of the compute.
        """
        if self.positions is None:
            return {"input_ids": self.input_ids}
        apart = config._attn_implementation in BY_POSITIONS
        mask = None if apart else self._masks(config, dtype)
        return {"input_ids": self.input_ids, "position_ids": self.positions, "attention_mask": mask}

    def _masks(self, config: PreTrainedConfig, dtype: torch.dtype) -> Any:
        """Make the mask; one for each kind of layer, where a model has several kinds."""
        text = config.get_text_config()
        window, kinds = getattr(text, "sliding_window", None), set(getattr(text, "layer_types", None) or ())
        if kinds <= {"full_attention"}:
            return self._mask(config, dtype, None if kinds else window)
        windows = {kind: window if kind == "sliding_attention" else None for kind in kinds}
        return {kind: self._mask(config, dtype, windows[kind]) for kind in kinds}

    def _mask(self, config: PreTrainedConfig, dtype: torch.dtype, window: int | None) -> Any:
        """Let each token see, of its own sequence and of its context, the tokens up to its own position."""
        positions, segments, parents = self.positions, self.segments, self.parents
        assert positions is not None and segments is not None and parents is not None

        def seen(row: Tensor, head: Tensor | None, query: Tensor, key: Tensor) -> Tensor:
            apart, other = positions[row, query] - positions[row, key], segments[row, key]
            found = ((other == segments[row, query]) | (other == parents[row, query])) & (apart >= 0)
            return found if window is None else found & (apart < window)

        (count, length), device = positions.shape, positions.device
        if config._attn_implementation in BY_BLOCKS:
            # Not compiled, as on a CPU, it is made from all pairs of tokens.
            compiled = device.type == "cuda"
            return create_block_mask(seen, count, None, length, length, device=str(device), _compile=compiled)
        row, place = torch.arange(count, device=device), torch.arange(length, device=device)
        mask = seen(row[:, None, None], None, place[:, None], place)[:, None]
        # Numbers, since of a mask of truths torch would make, and keep for the backward pass, numbers in each layer.
        return torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill_(~mask, torch.finfo(dtype).min)


def lay_out(
    contexts: Sequence[Sequence[int]],
    tokens: Tensor,
    mask: Tensor,
    *,
    together: Sequence[Sequence[int]] | None = None,
    packed: bool = False,
) -> Rows:
    """Lay n responses out after their contexts. The last token of a response predicts nothing, and is not read.

    Args:
        contexts: n sequences of token ids, at least one id each.
        tokens: [n, T] long, responses padded on the right.
        mask: [n, T] bool, true on response tokens.
        together: the numbers of the responses in each row, all of one context; by default each is alone.
        packed: put all rows behind one another into one, without padding.
    """
    read = [max(length - 1, 0) for length in mask.sum(1).tolist()]
    together = together or [[number] for number in range(len(read))]
    heads = [contexts[numbers[0]] for numbers in together]
    pieces: list[_Piece] = []
    responses: dict[int, _Piece] = {}
    end = width = 0
    for own, (context, numbers) in enumerate(zip(heads, together, strict=True)):
        row, column = (0, end) if packed else (own, 0)
        pieces.append(_Piece(row, column, 0, own))
        end = column + len(context)
        for number in numbers:
            responses[number] = _Piece(row, end, len(context), own)
            end += read[number]
        width = max(width, end)
    pieces += [responses[number] for number in range(len(read))]
    shape = (1 if packed else len(together), width)

    row_of, column_of, first, parent = torch.tensor(pieces).T
    begin, length = row_of * width + column_of, torch.tensor([*map(len, heads), *read])
    piece = torch.arange(len(pieces)).repeat_interleave(length)  # of each token that is read, and its number in it:
    along = torch.arange(len(piece)) - (length.cumsum(0) - length)[piece]

    def filled(values: Tensor, padding: int) -> Tensor:
        return torch.full(shape, padding).view(-1).index_copy(0, begin[piece] + along, values).view(shape)

    last = (begin + length - 1)[parent]  # of the context, which predicts a response's first token
    predicting = torch.cat([last[:, None], begin[:, None] + torch.arange(tokens.shape[1])], dim=1)[len(heads) :, :-1]
    ids = torch.cat([torch.tensor(list(chain(*heads))), tokens[:, :-1][mask[:, 1:]]])
    found = Rows(input_ids=filled(ids, 0), predicting=predicting.clamp(max=shape[0] * width - 1))
    if shape[0] == len(read):
        return found
    return replace(
        found,
        positions=filled(first[piece] + along, 0),
        segments=filled(piece, -1),
        parents=filled(parent[piece], -1),
    )


class _Piece(NamedTuple):
    """A context, or a response: its row, the column and the position of its first token, and the number of its row's
    context."""

    row: int
    column: int
    first: int
    parent: int
