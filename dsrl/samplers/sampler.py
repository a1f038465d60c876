"""The base class of samplers: what the loop, validation and evaluation ask of every one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsrl.data.encoding import PromptEncoder, end_token_ids
from dsrl.types import Metrics, Prompt, Rollouts, SamplingParams

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from dsrl.models.policy import Policy


@dataclass(kw_only=True)
class Sampler(ABC):
    """Draw responses to prompts from the policy's current weights.

    To write one, register a subclass that has `sample` and `sync`. `dsrl.samplers.contract` checks it.
    """

    def check_architecture(self, architecture: PreTrainedConfig) -> None:  # noqa: B027  (most take every model)
        """Raise ConfigError, with the way out, for a model that cannot be sampled from. Called before it is loaded."""

    def setup(self, policy: Policy, encoder: PromptEncoder) -> None:
        """Get ready to sample. Called once, on every rank, before the first `sample`.

        The policy is on its device. A subclass calls `super().setup(policy, encoder)`.
        """
        self.policy, self.encoder = policy, encoder

    def check_logprobs(self) -> None:  # noqa: B027  (an engine's are compared after every sync)
        """Raise ConfigError for a model whose responses would be drawn from other probabilities than the policy's.

        Called once, on every rank, between `setup` and the first `sample`, where the policy computes as in training.
        """

    @property
    def end_token_ids(self) -> set[int]:
        """The ids of the tokens that end a response and belong to it.

        These are the tokenizer's EOS and those of the model's generation config, where the model can draw them.
        """
        given = end_token_ids(self.encoder.tokenizer, self.policy.model.generation_config)
        return {token for token in given if 0 <= token < self.policy.embeddings}

    def decode(self, responses: Sequence[Sequence[int]]) -> list[str]:
        """Decode responses to texts as they were written, without the tokens that end them or frame a sequence."""
        return self.encoder.decode(responses, self.end_token_ids)

    @abstractmethod
    def sample(self, prompts: list[Prompt], params: SamplingParams) -> Rollouts:
        """Draw G responses to each of B prompts.

        What is drawn for a prompt depends on the seed, the iteration, the prompt's position and the response's number
        alone, not on the rest of the batch. Every rank calls it, also one that has no prompts.

        Returns:
            N = B * G responses, the G of a prompt beside each other, on the CPU.
        """

    @abstractmethod
    def sync(self, named_tensors: Iterable[tuple[str, Tensor]]) -> Metrics | None:
        """Sample from these weights from now on. Called after every iteration, on every rank.

        `named_tensors` are those of `Policy.named_tensors`, as `sync_dtype`. Every rank must take all of them, since
        gathering them can be a collective. Metrics that it returns are in the iteration's line.
        """

    @property
    def sync_dtype(self) -> torch.dtype | None:
        """The dtype in which `sync` wants the weights; None: that of the policy's own."""
        return None

    @property
    def compute_dtype(self) -> str | None:
        """The dtype in which log-probabilities are computed, such as `bfloat16`.

        None means that the policy itself samples, or a copy of it in the dtype in which it computes, so that nothing is
        to be corrected.
        """
        return None

    @property
    def on_policy(self) -> bool:
        """Whether responses are drawn from the policy; not where they are those of a record."""
        return True

    @property
    def for_validation(self) -> Sampler:
        """The sampler that draws the responses of validations: this one, unless it draws none from the policy."""
        return self

    @property
    def temperatures(self) -> tuple[float, float]:
        """The lowest and the highest temperature that it can draw at, apart from 0 (greedy)."""
        return 0.0, math.inf

    @property
    def max_length(self) -> int | None:
        """The most tokens that prompt and response may have together; None: as many as the model has positions."""
        return None

    def sleep(self) -> None:  # noqa: B027  (most samplers hold nothing)
        """Give back memory, if it can: nothing is sampled until the next `sync`, since the policy trains."""

    def close(self) -> None:  # noqa: B027  (most samplers hold nothing)
        """Release what `setup` took. It may be called twice, and before `setup`."""
