"""The border to samplers: what one drew is checked before anything is computed from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from dsrl.registry.blame import PartError, label_of
from dsrl.registry.returned import expect
from dsrl.samplers.sampler import Sampler
from dsrl.types import Prompt, Rollouts, SamplingParams

FINISH_REASONS = ("stop", "length")
SLACK = 1e-3
"""How far above 0 rounding may lift a log-probability."""


def draw(sampler: Sampler, prompts: list[Prompt], params: SamplingParams) -> Rollouts:
    """Let a sampler draw responses. A collective, as `Sampler.sample` is.

    Raises PartError where what it drew is not G responses to each of these prompts, each of one token or more, with a
    log-probability for each token, on the CPU.
    """
    rollouts = sampler.sample(prompts, params)
    expect(rollouts, Rollouts, owner=sampler, kind="sampler", what="Rollouts")
    if problem := next(_problems(sampler, rollouts, prompts, params), None):
        raise PartError(f"{label_of(sampler, 'sampler')}: {problem}")
    return rollouts


def _problems(sampler: Sampler, rollouts: Rollouts, prompts: Sequence[Prompt], params: SamplingParams) -> Iterator[str]:
    asked, count = len(prompts), params.responses_per_prompt
    drawn_now = getattr(sampler, "on_policy", True)  # a record has the prompts and the lengths that it has
    positions, wanted = [prompt.position for prompt in rollouts.prompts], [prompt.position for prompt in prompts]
    if drawn_now and positions != wanted:
        yield f"rollouts are of prompts {positions[:8]}, not of those that were asked, {wanted[:8]}"
    if len(rollouts.texts) != asked * count:
        yield f"{len(rollouts.texts)} responses to {asked} prompts, where {count} to each were asked for"
    tokens, mask, logprobs = rollouts.tokens, rollouts.mask, rollouts.logprobs
    if not asked:
        return
    if devices := sorted({part.device.type for part in (tokens, mask, logprobs)} - {"cpu"}):
        yield f"tokens, mask and logprobs must be on the CPU, not on {devices[0]}"
    for name, part, right in (("tokens", tokens, tokens.dtype == torch.long), ("mask", mask, mask.dtype == torch.bool)):
        if not right:
            yield f"{name} must be {'int64' if name == 'tokens' else 'bool'}, not {str(part.dtype)[6:]}"
    if not logprobs.is_floating_point():
        yield f"logprobs must be floating numbers, not {str(logprobs.dtype)[6:]}"
    lengths = mask.sum(-1)
    if not lengths.all():
        yield f"response {int((lengths == 0).nonzero()[0])} has no token; an empty one is its end token alone"
    if not torch.equal(mask, torch.arange(mask.shape[1]) < lengths[:, None]):
        yield "mask must be true on the tokens of a response, from the left, and false on the padding after them"
    if drawn_now and int(lengths.max()) > params.max_new_tokens:
        yield f"a response has {int(lengths.max())} tokens, where at most {params.max_new_tokens} were asked for"
    drawn, own = tokens[mask], logprobs[mask]
    known = getattr(getattr(sampler, "policy", None), "embeddings", 2**62)  # no bound where the model is not known
    if len(others := drawn[(drawn < 0) | (drawn >= known)]):
        yield f"token {int(others[0])} is not among the model's {known:,}"
    if not own.isfinite().all() or float(own.max()) > SLACK:
        wrong_one = own[~own.isfinite() | (own > SLACK)][0].item()
        yield f"the log-probability of a token is {wrong_one}; it must be a finite number, at most 0"
    if wrong_reasons := [reason for reason in rollouts.finish_reasons if reason not in FINISH_REASONS]:
        yield f"finish_reasons hold {wrong_reasons[0]!r}; allowed are {', '.join(FINISH_REASONS)}"
    if not all(isinstance(text, str) for text in rollouts.texts):
        yield "texts must hold text"
