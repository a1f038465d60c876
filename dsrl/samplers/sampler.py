"""What the loop asks of a sampler."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from dsrl.data.encoding import PromptEncoder
from dsrl.types import Prompt, Rollouts, SamplingParams

if TYPE_CHECKING:
    from dsrl.models.policy import Policy


@dataclass(kw_only=True)
class Sampler(ABC):
    """Base of samplers: prompts -> rollouts, from the policy's current weights."""

    def setup(self, policy: Policy, encoder: PromptEncoder) -> None:
        """Called once, before the first sample, with the policy in place."""
        self.policy, self.encoder = policy, encoder

    @property
    def end_token_ids(self) -> set[int]:
        """The tokens that end a response, and belong to it: the tokenizer's EOS and those of the generation config."""
        given = [
            self.encoder.tokenizer.eos_token_id,
            getattr(self.policy.model.generation_config, "eos_token_id", None),
        ]
        return {token for part in given for token in (part if isinstance(part, list) else [part]) if token is not None}

    @abstractmethod
    def sample(self, prompts: list[Prompt], params: SamplingParams) -> Rollouts:
        """G responses to each prompt, N = B * G, on the CPU. Draws depend on what `SamplingParams` names alone.

        Every rank calls it, one that has no prompts, too.
        """

    @abstractmethod
    def sync(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Serve these weights from now on. Called after every iteration, on every rank."""

    @property
    def compute_dtype(self) -> str | None:
        """The type that it computes log-probabilities in; None where it is the policy itself that samples."""
        return None

    @property
    def temperatures(self) -> tuple[float, float]:
        """The lowest and the highest temperature, beside 0, that it draws at."""
        return 0.0, math.inf

    @property
    def max_length(self) -> int | None:
        """How many tokens prompt and response may have together; None: as many as the model has positions."""
        return None

    def sleep(self) -> None:  # noqa: B027  (most samplers hold nothing)
        """Nothing is sampled from now until the next `sync`: the policy trains."""

    def close(self) -> None:  # noqa: B027  (most samplers hold nothing)
        """Release what `setup` took. May be called twice."""
