"""Sampling with plain transformers, from the trainer's own weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from dsrl.draws import uniforms
from dsrl.errors import ConfigError
from dsrl.policy import left_pad
from dsrl.registry import register
from dsrl.samplers.sampler import Sampler
from dsrl.types import Prompt, Rollouts, SamplingParams


@register("sampler", "hf")
@dataclass(kw_only=True)
class HFSampler(Sampler):
    """A decoding loop of its own around the model's forward.

    A prompt is read once for its G responses, prompts of like length are decoded together, and responses that have
    ended leave the batch. batch_size: responses decoded at once.
    """

    batch_size: int = 512

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"sampler.batch_size must be at least 1, not {self.batch_size}")

    def sync(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Nothing to do: it reads the trainer's weights themselves."""

    @torch.no_grad()
    def sample(self, prompts: list[Prompt], params: SamplingParams) -> Rollouts:
        """See `Sampler.sample`."""
        count, size = params.responses_per_prompt, params.max_new_tokens
        rows = len(prompts) * count
        tokens = torch.zeros(rows, size, dtype=torch.long)
        logprobs = torch.zeros(rows, size)
        lengths = torch.zeros(rows, dtype=torch.long)
        stop = self._stop_token_ids(params)

        by_length = sorted(range(len(prompts)), key=lambda b: len(prompts[b].token_ids))
        step = max(1, self.batch_size // count)
        with evaluating(self.policy):
            for start in range(0, len(prompts), step):
                chosen = by_length[start : start + step]
                decoded = self._decode([prompts[b] for b in chosen], params, stop)
                target = torch.tensor([b * count + g for b in chosen for g in range(count)])
                tokens[target], logprobs[target], lengths[target] = (part.cpu() for part in decoded)

        longest = int(lengths.max()) if rows else 0
        tokens, logprobs = tokens[:, :longest], logprobs[:, :longest]
        mask = torch.arange(longest) < lengths[:, None]
        ended = torch.isin(tokens.gather(1, lengths[:, None] - 1), stop.cpu())[:, 0] if rows else lengths.bool()
        return Rollouts(
            prompts=prompts,
            tokens=tokens,
            mask=mask,
            logprobs=logprobs,
            texts=self.encoder.decode([row[keep].tolist() for row, keep in zip(tokens, mask, strict=True)]),
            finish_reasons=["stop" if end else "length" for end in ended.tolist()],
        )

    def _decode(self, prompts: list[Prompt], params: SamplingParams, stop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [N, max_new_tokens], their log-probabilities and the lengths [N] of G responses to each prompt."""
        model, device, count = self.policy.model, self.policy.device, params.responses_per_prompt
        ids, seen = left_pad([prompt.token_ids for prompt in prompts], device)
        ragged = not bool(seen.all())
        draws = torch.stack(
            [
                uniforms(params.seed, params.iteration, prompt.position, g, params.max_new_tokens)
                for prompt in prompts
                for g in range(count)
            ]
        ).to(device)
        tokens = torch.zeros(draws.shape, dtype=torch.long, device=device)
        logprobs = torch.zeros_like(draws)
        lengths = torch.zeros(len(draws), dtype=torch.long, device=device)

        cache = DynamicCache(config=model.config)
        position = seen.long().cumsum(-1).sub(1).clamp(min=0)
        output = model(
            input_ids=ids,
            attention_mask=seen.long() if ragged else None,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache.batch_repeat_interleave(count)
        logits = output.logits[:, -1].repeat_interleave(count, 0)
        seen, position = seen.repeat_interleave(count, 0), position[:, -1:].repeat_interleave(count, 0)
        rows = torch.arange(len(draws), device=device)  # row of each sequence that is still in the batch
        alive = torch.ones_like(rows, dtype=torch.bool)

        for t in range(params.max_new_tokens):
            token, logprob = draw(logits, draws[rows, t], params)
            going = rows[alive]
            tokens[going, t], logprobs[going, t], lengths[going] = token[alive], logprob[alive], t + 1
            alive = alive & ~torch.isin(token, stop)
            remaining = int(alive.sum())
            if remaining == 0 or t + 1 == params.max_new_tokens:
                break
            if remaining <= 0.9 * len(rows):  # a batch is cut where it pays for the copy of its cache
                keep = alive.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                rows, token, seen, position, alive = (x[keep] for x in (rows, token, seen, position, alive))
            position = position + 1
            seen = torch.cat([seen, torch.ones_like(position, dtype=torch.bool)], 1)
            logits = model(
                input_ids=token[:, None],
                attention_mask=seen.long() if ragged else None,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
        return tokens, logprobs, lengths

    def _stop_token_ids(self, params: SamplingParams) -> Tensor:
        return torch.tensor(
            sorted(self.end_token_ids | set(params.stop_token_ids)), dtype=torch.long, device=self.policy.device
        )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode; afterwards, and after an error, as it was."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def draw(logits: Tensor, uniform: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """One token a row by inverse transform: logits [N, V] and uniform numbers [N] to tokens [N] and log P(token) [N].

    log P is that of the logits over the temperature (over 1 when greedy), before top-k and top-p.
    """
    logits = logits.float()
    if params.temperature == 0:
        token = logits.argmax(-1)
    else:
        logits = logits / params.temperature
        weights = _restricted(logits, params).softmax(-1).cumsum(-1)
        target = uniform[:, None].to(weights.dtype) * weights[:, -1:]
        token = torch.searchsorted(weights, target, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return token, logits.log_softmax(-1).gather(-1, token[:, None])[:, 0]


def _restricted(logits: Tensor, params: SamplingParams) -> Tensor:
    """Logits with -inf outside of the top k tokens and of the smallest set whose probability reaches top_p. [N, V]"""
    if params.top_k > 0:
        smallest = logits.topk(min(params.top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, float("-inf"))
    if params.top_p < 1:
        ordered, order = logits.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        outside = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= params.top_p)
        logits = logits.masked_fill(outside, float("-inf"))
    return logits
