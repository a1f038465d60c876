"""Score tokens by the model's head, in chunks: no pass holds the logits of all its tokens.

A chunk goes through the model's own forward from the hidden states on, so that a softcap, a scale or a bias of its head
is the model's. A chunk's logits are computed again in the backward pass instead of being kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dsrl.errors import DSRLError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK_BYTES = 2**28
"""Of a chunk's logits in float32: larger chunks gain no time, and smaller ones no memory that matters."""


Reader = Callable[..., Any]
"""What is made of the hidden states [L, H] of all tokens: `read(logits_of, hidden, vocabulary=V)`."""


class TokenScores(NamedTuple):
    """Log-probabilities of tokens, with gradient, and the entropies of their distributions, without; in nats. Entropies
    are 0 where a pass is not asked for them."""

    logprobs: Tensor
    entropy: Tensor


def score_in_chunks(model: PreTrainedModel) -> bool:
    """Give a model's forward one more argument: `read(logits_of, hidden, vocabulary=V)`, whose result it returns.

    It happens inside the forward, since a sharded model gathers its head only there. Without `read`, the forward is
    what it was. Returns False, and leaves the model alone, where its forward does not call its base as a whole.
    """
    prefix = model.base_model_prefix
    source = inspect.getsource(inspect.unwrap(type(model).forward))
    if not isinstance(getattr(model, prefix, None), nn.Module) or f"self.{prefix}(" not in source:
        return False
    model.forward = MethodType(_forward, model)
    return True


def score_hidden(
    logits_of: Callable[[Tensor], Tensor],
    hidden: Tensor,
    predicting: Tensor,
    tokens: Tensor,
    mask: Tensor,
    temperature: float,
    vocabulary: int | None = None,
    entropy: bool = True,
) -> TokenScores:
    """Score the tokens of N responses from the hidden states that predict them.

    Args:
        logits_of: from hidden states [n, t, H] to logits [n, t, V].
        hidden: [L, H], of all tokens of all rows.
        predicting: [N, T] long, which of them predicts each token.
        tokens: [N, T] long.
        mask: [N, T] bool, true on response tokens.
        temperature: the logits are divided by it.
        vocabulary: V, which says how many tokens are a chunk; None: all are one.
        entropy: whether to compute it.

    Returns:
        Both [N, T], 0 where the mask is false.
    """
    again = False  # whether a chunk is computed for the backward pass

    def score(logits: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = logits if temperature == 1.0 else logits / temperature
        logprobs = -F.cross_entropy(logits, chosen, reduction="none")
        with torch.no_grad():  # a backward pass has no use for it
            wanted = entropy and not again
            found = torch.special.entr(logits.softmax(-1)).sum(-1) if wanted else torch.zeros_like(logprobs)
        return logprobs, found

    @contextmanager
    def recomputing() -> Iterator[None]:
        nonlocal again
        again = True
        try:
            yield
        finally:
            again = False

    hidden, tokens = hidden[predicting[mask]], tokens[mask]
    size = max(1, CHUNK_BYTES // (4 * vocabulary) if vocabulary else len(tokens))
    found: tuple[Tensor, ...]
    if len(tokens) <= size:  # one chunk, whose logits may stay
        found = score(logits_of(hidden[None])[0], tokens)
    else:
        parts: list[tuple[Tensor, Tensor]] = [
            checkpoint(
                lambda part, chosen: score(logits_of(part[None])[0], chosen),
                part,
                chosen,
                use_reentrant=False,
                preserve_rng_state=False,
                context_fn=lambda: (nullcontext(), recomputing()),
            )
            for part, chosen in zip(torch.split(hidden, size), torch.split(tokens, size), strict=True)
        ]
        found = tuple(torch.cat(column) for column in zip(*parts, strict=True))
    return TokenScores(*(values.new_zeros(mask.shape).masked_scatter(mask, values) for values in found))


def _forward(self: Any, *arguments: Any, read: Reader | None = None, **named: Any) -> Any:
    """The forward of a model that scores in chunks. Nothing of the model is bound to it, so that it can be copied."""
    if read is None:
        return type(self).forward(self, *arguments, **named)
    output = getattr(self, self.base_model_prefix)(**named)
    return read(
        lambda part: _logits(self, output, part),
        output.last_hidden_state.flatten(0, 1),
        vocabulary=self.config.get_text_config().vocab_size,
    )


def _logits(model: Any, output: Any, hidden: Tensor) -> Tensor:
    """Run a model's own forward from hidden states [n, t, H] on: logits [n, t, V]. `output`: what its base gave."""
    base = getattr(model, model.base_model_prefix)
    given, calls = type(output)(**{**output, "last_hidden_state": hidden}), 0

    def instead(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        return given

    base.forward = instead
    try:
        logits: Tensor = type(model).forward(model, inputs_embeds=hidden, use_cache=False).logits
    finally:
        del base.forward
    if calls != 1:
        raise DSRLError(
            f"{type(model).__name__} calls its {model.base_model_prefix} {calls} times in a forward: its head cannot "
            "be applied alone"
        )
    return logits
