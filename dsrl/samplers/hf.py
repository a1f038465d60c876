"""Sampler `hf`: sample with plain transformers, from the trainer's own weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dsrl.data.encoding import PromptEncoder
from dsrl.errors import ConfigError, DSRLError
from dsrl.models.buffers import persistent_buffers
from dsrl.models.positions import fix_positions
from dsrl.registry import register
from dsrl.samplers.drawing import draw_tokens
from dsrl.samplers.sampler import Sampler
from dsrl.seeding import uniforms
from dsrl.types import Prompt, Rollouts, SamplingParams

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from dsrl.models.policy import Policy
    from dsrl.samplers.decoding import ReadPrompts


@register("sampler", "hf")
@dataclass(kw_only=True)
class HFSampler(Sampler):
    """Sample in a decoding loop around the model's own forward.

    A prompt is read once for its G responses, prompts of similar length are decoded together, and a response that has
    ended leaves the batch. Where layers keep a state (Mamba, linear attention), padding would be part of it, so that
    only prompts of one length are decoded together.

    Keys and values of a token take 2 x layers x key heads x head dimension x bytes of a number. At the default budget
    that is at most 2.8 GiB for SmolLM2-135M and 14 GiB for Qwen3-0.6B in float32, half of it in bfloat16. Memory is
    taken as responses grow, so short ones take less.

    It decodes with the policy itself, unless the policy's weights are sharded over ranks (FSDP). Then a forward is a
    collective, and ranks whose responses end at different lengths would wait for each other for ever. So every rank
    decodes with a full copy of the model, which `sync` fills and which costs each rank the memory of the full model.
    It is in the dtype in which the policy computes, so that it samples as the policy would.

    What `trainer.compile` compiles is not used: keys and values that grow would compile it again and again.
    """

    max_batch_total_tokens: int = 65536
    """Tokens decoded at once, of prompts and longest responses together; bounds the memory of keys and values."""

    def __post_init__(self) -> None:
        if self.max_batch_total_tokens < 1:
            raise ConfigError(f"sampler.max_batch_total_tokens must be at least 1, not {self.max_batch_total_tokens}")

    def rows_at_once(self, longest: int, prompts: int, responses: int) -> int:
        """Count the responses that are decoded at once, if a prompt and its longest response have `longest` tokens."""
        if responses * longest > self.max_batch_total_tokens:
            return min(responses, max(1, self.max_batch_total_tokens // longest))
        return min(prompts, self.max_batch_total_tokens // (responses * longest)) * responses

    def check_architecture(self, architecture: PreTrainedConfig) -> None:
        """Raise ConfigError for a model whose states are not in a cache of transformers; see `Sampler`."""
        from dsrl.models.families import cannot_decode

        if problem := cannot_decode(architecture):
            kind = architecture.model_type
            raise ConfigError(f"sampler=hf cannot sample from {kind}: {problem}; sampler=vllm can, if vLLM has it")

    def setup(self, policy: Policy, encoder: PromptEncoder) -> None:
        """Take the policy; if its weights are sharded, make the full copy, in which every rank takes part."""
        super().setup(policy, encoder)
        self.check_architecture(policy.model.config)
        self.model = policy.model
        if policy.sharded:
            self.model = _empty_copy(policy.model)
            if policy.longest is not None:
                fix_positions(self.model, policy.longest)
            self.sync(policy.named_tensors(self.sync_dtype))

    def check_logprobs(self) -> None:
        """Compare log-probabilities of a few tokens with those of plain forwards; see `Sampler`."""
        from dsrl.models.agreement import check_sampler

        check_sampler(self.policy, "hf", self._draw)

    @property
    def sync_dtype(self) -> torch.dtype | None:
        """The dtype of the full copy; None where there is none."""
        return None if self.model is self.policy.model else next(self.model.parameters()).dtype

    def sync(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Fill the full copy, one tensor at a time. Do nothing if the trainer's own weights are sampled from."""
        if self.model is self.policy.model:
            return
        self.model.to(self.policy.device)  # type: ignore[arg-type]
        missing = {**dict(self.model.named_parameters()), **dict(persistent_buffers(self.model))}
        with torch.no_grad():
            for name, tensor in named_tensors:
                missing.pop(name).copy_(tensor)
        if missing:
            raise DSRLError(f"sampler hf: the policy gave no weights for {', '.join(missing)}")

    def sample(self, prompts: list[Prompt], params: SamplingParams) -> Rollouts:
        """Draw responses; see `Sampler.sample`."""
        return self._draw(prompts, params)

    @torch.no_grad()
    def _draw(self, prompts: list[Prompt], params: SamplingParams) -> Rollouts:
        from dsrl.models.families import keeps_states
        from dsrl.samplers.decoding import decoding_attention, read_prompts

        count, size = params.responses_per_prompt, params.max_new_tokens
        rows = len(prompts) * count
        tokens = torch.zeros(rows, size, dtype=torch.long)
        logprobs = torch.zeros(rows, size)
        lengths = torch.zeros(rows, dtype=torch.long)
        stop = self._stop_token_ids(params)

        budget, padded = self.max_batch_total_tokens, not keeps_states(self.model.config)
        prompt_lengths = [len(prompt.token_ids) for prompt in prompts]
        with (
            in_eval_mode(self.model),
            decoding_attention(self.model),
            torch.compiler.set_stance("force_eager"),
            casting_once(self.model.device.type),
        ):
            for chosen in batches_within(budget, prompt_lengths, responses=count, longest=size, padded=padded):
                longest = prompt_lengths[chosen[-1]] + size
                read = read_prompts(self.model, [prompts[b] for b in chosen], longest)
                part = self.rows_at_once(longest, 1, count)  # fewer than all of a single prompt only
                for first in range(0, count, part):
                    numbers = range(first, min(first + part, count))
                    decoded = self._decode(copy.deepcopy(read) if part < count else read, numbers, params, stop)
                    target = torch.tensor([b * count + g for b in chosen for g in numbers])
                    tokens[target], logprobs[target], lengths[target] = (found.cpu() for found in decoded)

        width = int(lengths.max()) if rows else 0
        tokens, logprobs = tokens[:, :width], logprobs[:, :width]
        mask = torch.arange(width) < lengths[:, None]
        ended = torch.isin(tokens.gather(1, lengths[:, None] - 1), stop.cpu())[:, 0] if rows else lengths.bool()
        return Rollouts(
            prompts=prompts,
            tokens=tokens,
            mask=mask,
            logprobs=logprobs,
            texts=self.decode([row[keep].tolist() for row, keep in zip(tokens, mask, strict=True)]),
            finish_reasons=["stop" if end else "length" for end in ended.tolist()],
        )

    def _decode(
        self, read: ReadPrompts, numbers: range, params: SamplingParams, stop: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode some of the G responses to each of b prompts, n = b * len(numbers) together.

        Args:
            read: the prompts; their cache is used up.
            numbers: which of the G responses.
            params: how to draw.
            stop: ids of the tokens that end a response.

        Returns:
            Tokens [n, max_new_tokens] long, their log-probabilities in that shape, and lengths [n] in tokens.
        """
        from dsrl.samplers.decoding import next_logits

        device, size, count = self.model.device, params.max_new_tokens, len(numbers)
        draws = torch.stack(
            [
                uniforms(params.seed, params.iteration, prompt.position, g, size)
                for prompt in read.prompts
                for g in numbers
            ]
        ).to(device)
        tokens = torch.zeros(draws.shape, dtype=torch.long, device=device)
        logprobs = torch.zeros_like(draws)
        lengths = torch.zeros(len(draws), dtype=torch.long, device=device)

        cache, width = read.cache, read.seen.shape[1]
        cache.repeat(len(read.prompts), count)
        logits, position = read.logits.repeat_interleave(count, 0), read.position.repeat_interleave(count, 0)
        seen = read.seen.new_ones(len(draws), width + size)
        seen[:, :width] = read.seen.repeat_interleave(count, 0)
        ragged = not bool(read.seen.all())
        rows = torch.arange(len(draws), device=device)  # where in the result each sequence of the batch stands

        for t in range(size):
            token, logprob = draw_tokens(logits, draws[rows, t], params)
            tokens[rows, t], logprobs[rows, t], lengths[rows] = token, logprob, t + 1
            alive = ~torch.isin(token, stop)
            remaining = int(alive.sum())
            if remaining == 0 or t + 1 == size:
                break
            if remaining < len(rows):
                order = _closed_up(alive, remaining)
                cache.select(order)
                rows, token, seen, position = (x[order] for x in (rows, token, seen, position))
            position = position + 1
            so_far = seen[:, : width + t + 1] if ragged else None
            logits = next_logits(self.model, token[:, None], position, so_far, cache)
        return tokens, logprobs, lengths

    def _stop_token_ids(self, params: SamplingParams) -> Tensor:
        return torch.tensor(
            sorted(self.end_token_ids | set(params.stop_token_ids)), dtype=torch.long, device=self.model.device
        )


def batches_within(
    budget: int, prompt_lengths: Sequence[int], *, responses: int, longest: int, padded: bool = True
) -> Iterator[list[int]]:
    """Cut prompts into batches that are decoded together, shortest prompts first.

    Args:
        budget: tokens that the responses of a batch may have in all, each with its padded prompt. A batch of one prompt
            may exceed it.
        prompt_lengths: [B], in tokens.
        responses: G, to each prompt.
        longest: tokens of the longest response.
        padded: whether prompts of several lengths may be in a batch.

    Yields:
        Numbers of prompts, by length.
    """
    batch: list[int] = []
    for b in sorted(range(len(prompt_lengths)), key=prompt_lengths.__getitem__):
        full = (len(batch) + 1) * responses * (prompt_lengths[b] + longest) > budget
        if batch and (full or not (padded or prompt_lengths[b] == prompt_lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(b)
    if batch:
        yield batch


def _closed_up(alive: Tensor, remaining: int) -> Tensor:
    """List the rows [remaining] long that remain, of alive [N] bool: each keeps its place or fills a gap before it."""
    order = torch.arange(remaining, device=alive.device)
    order[~alive[:remaining]] = remaining + alive[remaining:].nonzero()[:, 0]
    return order


def _empty_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Build a model of that configuration in the dtype in which `model` computes; its weights are yet to be filled."""
    from transformers import AutoModelForCausalLM

    from dsrl.parallel.sharding import compute_dtype

    made: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        model.config, dtype=compute_dtype(model), attn_implementation=model.config._attn_implementation
    )
    made.requires_grad_(False)
    made.train(False)
    return made


@contextmanager
def casting_once(device_type: str) -> Iterator[None]:
    """Let autocast, where it is on, keep the weights that it has cast: meanwhile they must not change.

    The trainer's autocast keeps none, since its weights do; each token would then cast all of them again.
    """
    if not torch.is_autocast_enabled(device_type):
        yield
        return
    try:
        with torch.autocast(device_type, dtype=torch.get_autocast_dtype(device_type), cache_enabled=True):
            yield
    finally:
        torch.clear_autocast_cache()


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Put the module into evaluation mode; afterwards, and after an error, each part of it into the mode before."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training
