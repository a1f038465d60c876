"""Tokens and FLOPs of an iteration of each phase, over all ranks; bytes and seconds of a sync and of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsrl.config.run_config import RunConfig
from dsrl.devices import SHARDED
from dsrl.loop.balance import Work
from dsrl.loop.contexts import space_key
from dsrl.models.head import CHUNK_BYTES
from dsrl.phases.phase import Phase
from dsrl.planning.architecture import Shapes
from dsrl.planning.balance import balance_of
from dsrl.planning.dtypes import bytes_of, gathered_bytes_of
from dsrl.planning.workload import Workload
from dsrl.samplers.vllm.sampler import VLLMSampler


@dataclass(frozen=True, kw_only=True)
class PhaseWork:
    """An iteration of a phase: tokens that go through the model, and floating point operations, by stage.

    Args:
        number: of the phase, from 1.
        objective: its registered name.
        tokens: of `sampling`, `scoring` and `update`; a token that is scored twice counts twice, and a prompt that
            responses share for each of them.
        flops: of the same stages. A multiplication and an addition are two.
        balance: of the pass of the update, with its padding and its slowest ranks, in a step; of the longest contexts.
    """

    number: int
    objective: str
    tokens: dict[str, int]
    flops: dict[str, float]
    balance: Work


def phase_work(config: RunConfig, shapes: Shapes, workload: Workload) -> list[PhaseWork]:
    """Count the work of an iteration of each phase; every response is kept, and has the mean length of the plan."""
    return [_Counter(config, shapes, workload, phase).work() for phase in config.phases]


def forward_flops(shapes: Shapes, length: int, scored: int, *, causal: float = 0.5) -> float:
    """Count the operations of a forward over one row.

    Args:
        shapes: the model's.
        length: tokens of the row.
        scored: those to which the head is applied.
        causal: the share of the products of attention that its kernel computes: those with tokens before.
    """
    attention = causal * 4 * shapes.layers * shapes.heads * shapes.head_size * length**2
    return 2 * shapes.products * length + 2 * shapes.vocabulary * shapes.hidden * scored + attention


def sync_bytes(config: RunConfig, shapes: Shapes) -> int:
    """Count the bytes that a rank receives when the sampler gets new weights: none where the policy itself samples."""
    sharded = config.trainer.strategy in SHARDED
    if isinstance(config.sampler, VLLMSampler):
        return shapes.parameters * (gathered_bytes_of(config) if sharded else bytes_of(config.sampler.dtype))
    return shapes.parameters * gathered_bytes_of(config) if sharded else 0


def checkpoint_bytes(config: RunConfig, shapes: Shapes) -> int:
    """Count the bytes of a checkpoint: weights, moments, and the frozen copies where there are any."""
    models = 1 + config.frozen_copies
    return (models * shapes.parameters + 2 * shapes.trained) * bytes_of(config.model.dtype)


@dataclass(frozen=True)
class _Counter:
    config: RunConfig
    shapes: Shapes
    workload: Workload
    phase: Phase

    def work(self) -> PhaseWork:
        config, prompt, response = self.config, self.workload.prompt_tokens, self._response
        prompts = config.prompts_per_iteration
        rows = prompts * config.responses_per_prompt
        scored, updated = self._scored_contexts(), self._updated_contexts() * config.update.epochs
        reading = forward_flops(self.shapes, prompt, 1)
        writing = forward_flops(self.shapes, prompt + response, response) - forward_flops(self.shapes, prompt, 0)
        return PhaseWork(
            number=self.phase.number,
            objective=self.phase.name,
            tokens={
                "sampling": prompts * prompt + rows * response,
                "scoring": rows * sum(context + response for context in scored),
                "update": rows * sum(context + response for context in updated),
            },
            flops={
                "sampling": prompts * reading + rows * writing,
                "scoring": rows * sum(self._forward(context) for context in scored),
                "update": rows * sum(self._forward_and_backward(context) for context in updated),
            },
            balance=balance_of(
                config, self.shapes, self.workload, context=max(updated), response=self._longest_response
            ),
        )

    @property
    def _longest_response(self) -> int:
        return min(self.phase.sampling.max_new_tokens, self.workload.response_tokens)

    @property
    def _response(self) -> int:
        return min(self.config.plan.response_tokens or self._longest_response, self._longest_response)

    def _forward(self, context: int) -> float:
        return forward_flops(self.shapes, context + self._response, self._response)

    def _forward_and_backward(self, context: int) -> float:
        """A backward computes the gradients of what a product takes: of hidden states, and of weights if trained."""
        forward, shapes = self._forward(context), self.shapes
        head = 2 * shapes.vocabulary * shapes.hidden * self._response
        share = shapes.trained_products / shapes.products
        backward = forward + share * (forward - head) + (head if shapes.trained == shapes.parameters else 0)
        again = forward - head if self.config.model.gradient_checkpointing else 0.0
        if self.workload.micro_batch_tokens * 4 * shapes.vocabulary > CHUNK_BYTES:  # a chunk's logits are not kept
            again += head
        return forward + backward + again

    def _updated_contexts(self) -> list[int]:
        """The context of each pass of the update: terms of one space share it."""
        return [self._context(space) for space in {space_key(term.space): term.space for term in self._terms}.values()]

    def _scored_contexts(self) -> list[int]:
        """The context of each pass without gradient, in an iteration that measures all there is to measure."""
        several = self.config.steps_per_iteration > 1
        old = {space_key(term.space): term.space for term in self._terms if several and term.needs_old_logprobs}
        parts = [term.chosen_tokens for term in self._terms]
        chosen_by = dict.fromkeys(space for part in parts if part is not None for space in part.spaces)
        reference = {space_key(term.space): term.space for term in self._terms if term.needs_reference}
        in_reward = [term.reward_kl.space for term in self._terms if term.reward_kl is not None]
        initial = ["conditional"] * (2 if self.config.initial_kl.every else 0)
        spaces = (*chosen_by, *old.values(), *reference.values(), *in_reward, *in_reward, *initial)
        return [self._context(space) for space in spaces]

    @property
    def _terms(self) -> list[Any]:
        return [term for _, term in self.phase.objective.terms]

    def _context(self, space: Any) -> int:
        return 1 if space == "marginal" else self.workload.prompt_tokens
