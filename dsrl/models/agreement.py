"""Before anything is trained, a few tokens show whether a model computes the same however it is run: alone, padded, or
token by token as it samples.

A state outside of the cache, padding that is read, or a model that looks ahead would train on other probabilities than
those that responses are drawn from, and no number of the run would say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dsrl.errors import ConfigError, DSRLError
from dsrl.models.policy import Policy
from dsrl.parallel.collectives import all_max
from dsrl.parallel.sharding import compute_dtype, reshard, unwrapped
from dsrl.types import Prompt, Rollouts, SamplingParams

LENGTHS = (6, 1, 3, 3)
"""Tokens of the prompts: of several lengths, so that some are padded, and twice of one, for models that need it."""
NEW_TOKENS = 8
"""Tokens of each response, at most."""
TOLERANCES = {torch.float64: 2e-3, torch.float32: 2e-3, torch.float16: 0.05, torch.bfloat16: 0.2}
"""The largest mean difference of log-probabilities, in nats, by the type of the compute. Models of transformers differ
by 1e-6 in float32, and by up to 0.07 in bfloat16 (SmolLM2), where logits of 20 are 0.1 apart."""

CRASHES = (AttributeError, LookupError, RuntimeError, TypeError, ValueError, AssertionError)
"""What a model's code raises where its cache is another than it expects."""


@torch.no_grad()
def check_rows(policy: Policy, *, padded: bool = True) -> None:
    """Raise ConfigError where what comes after a token changes its log-probability: other tokens, or padding.

    A few forwards of a few tokens. Every rank calls it, and all come to one verdict.

    Args:
        policy: the policy.
        padded: whether rows of several lengths are scored together.
    """
    prompts, size = _prompts(policy), _new_tokens(policy)
    contexts = [prompt.token_ids for prompt in prompts]
    mask = torch.arange(size) < torch.tensor([max(1, size - 2 * number) for number in range(len(prompts))])[:, None]
    tokens = _tokens(policy, mask.numel()).view(mask.shape) * mask
    others = torch.where(torch.arange(size) < size // 2, tokens, tokens.roll(1, 1))
    with _evaluating(policy):
        alone = _alone(policy, contexts, tokens, mask)
        going_on_otherwise = _alone(policy, contexts[:1], others[:1], mask[:1])
        together = _together(policy, contexts, tokens) if padded else alone
    allowed, dtype = _tolerance(policy), _compute_dtype(policy)
    before = mask[:1] & (torch.arange(size) < size // 2)
    if not (difference := _difference(alone[:1], going_on_otherwise, before)) <= allowed:
        raise ConfigError(
            f"{_named(policy)} looks ahead: other tokens after a token change its log-probability by {difference:.2g} "
            f"nats on average, more than {allowed:g} ({dtype}), so that it cannot learn from its samples; where its "
            "configuration has is_decoder=false, true makes it read from left to right"
        )
    if not (difference := _difference(alone, together, mask)) <= allowed:
        raise ConfigError(
            f"{_named(policy)} reads padding: log-probabilities of rows that are padded on the right differ from those "
            f"of each row alone by {difference:.2g} nats a token on average, more than {allowed:g} ({dtype}); "
            "update.micro_batch_tokens=1 pads none"
        )


@torch.no_grad()
def check_sampler(policy: Policy, sampler: str, sample: Callable[[list[Prompt], SamplingParams], Rollouts]) -> None:
    """Raise ConfigError where a sampler draws from other probabilities than a plain forward of the policy gives.

    Prompts have unequal lengths, and responses end at unequal ones. A few forwards of a few tokens. Every rank calls
    it, and all come to one verdict.

    Args:
        policy: the policy.
        sampler: its name, for the message.
        sample: of a sampler that draws from the policy itself, or from a copy of it.
    """
    prompts, kind = _prompts(policy), unwrapped(policy.model).config
    ends = tuple(range(3, policy.embeddings, 8)[:4096])  # some responses leave the batch early
    params = SamplingParams(responses_per_prompt=2, max_new_tokens=_new_tokens(policy), stop_token_ids=ends)
    with _evaluating(policy):
        try:
            found = sample(prompts, params)
        except CRASHES as error:
            if isinstance(error, torch.OutOfMemoryError | DSRLError):
                raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise ConfigError(
                f"sampler={sampler} cannot sample from {_named(policy)}, tried on a few tokens: {reason}; use "
                "sampler=vllm, if vLLM has it"
            ) from error
        contexts = [found.prompt_of(row).token_ids for row in range(len(found.tokens))]
        alone = _alone(policy, contexts, found.tokens, found.mask)
    difference, allowed, dtype = (
        _difference(alone, found.logprobs, found.mask),
        _tolerance(policy),
        _compute_dtype(policy),
    )
    if not difference <= allowed:
        eager = "" if kind._attn_implementation == "eager" else ", or model.attn_implementation=eager"
        raise ConfigError(
            f"sampler={sampler} cannot sample from {_named(policy)}: log-probabilities of what it draws differ from "
            f"those of a plain forward by {difference:.2g} nats a token on average, more than {allowed:g} ({dtype}), "
            f"after prompts of {', '.join(map(str, LENGTHS))} tokens: the model keeps states outside of its cache, or "
            f"looks ahead; use sampler=vllm, if vLLM has it{eager}"
        )


def _prompts(policy: Policy) -> list[Prompt]:
    """Make prompts of a few tokens, shorter where the model has few positions."""
    room = (policy.positions or 64) - _new_tokens(policy)
    lengths = [max(1, min(length, room)) for length in LENGTHS]
    tokens = iter(_tokens(policy, sum(lengths)).tolist())
    return [
        Prompt(position=number, text="", token_ids=tuple(next(tokens) for _ in range(length)))
        for number, length in enumerate(lengths)
    ]


def _tokens(policy: Policy, count: int) -> Tensor:
    """Take so many tokens of the vocabulary, most of them different."""
    return (torch.arange(count) * 7 + 4) % policy.embeddings


def _new_tokens(policy: Policy) -> int:
    return max(1, min(NEW_TOKENS, (policy.positions or 64) // 2))


def _alone(policy: Policy, contexts: Sequence[Sequence[int]], tokens: Tensor, mask: Tensor) -> Tensor:
    """Score each row by a forward of its own, without padding: [N, T]."""
    scores = torch.zeros(mask.shape)
    for row, context in enumerate(contexts):
        length = int(mask[row].sum())
        scores[row : row + 1, :length] = _together(policy, [context], tokens[row : row + 1, :length])
    return scores


def _together(policy: Policy, contexts: Sequence[Sequence[int]], tokens: Tensor) -> Tensor:
    """Score rows by one plain forward, padded on the right with 0: [N, T], without meaning where a row has ended."""
    rows = [torch.cat([torch.tensor(context), own]) for context, own in zip(contexts, tokens, strict=True)]
    logits = policy.model(input_ids=pad_sequence(rows, batch_first=True).to(policy.device), use_cache=False).logits
    scored = [
        found.float().log_softmax(-1)[len(context) - 1 :][: len(own)].gather(-1, own[:, None].to(found.device))[:, 0]
        for found, context, own in zip(logits, contexts, tokens, strict=True)
    ]
    return torch.stack(scored).cpu()


def _difference(one: Tensor, other: Tensor, mask: Tensor) -> float:
    """The mean absolute difference, the largest of all ranks; infinite where there is none."""
    found = float((one - other.float())[mask].abs().mean())
    return all_max(found if math.isfinite(found) else math.inf)


def _tolerance(policy: Policy) -> float:
    dtype = _compute_dtype(policy)
    rounded = dtype == torch.float32 and policy.device.type == "cuda" and _tf32()
    return TOLERANCES.get(torch.float16 if rounded else dtype, TOLERANCES[torch.bfloat16])


def _tf32() -> bool:
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def _compute_dtype(policy: Policy) -> torch.dtype:
    kind = policy.device.type
    if torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return compute_dtype(policy.model)


def _named(policy: Policy) -> str:
    model = unwrapped(policy.model)
    return f"{model.config.model_type} ({type(model).__name__})"


@contextmanager
def _evaluating(policy: Policy) -> Iterator[None]:
    """Put the policy into evaluation mode, compile nothing, and let go of what a forward gathered."""
    was_training = policy.training
    policy.eval()
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        policy.train(was_training)
        reshard(policy.model)
