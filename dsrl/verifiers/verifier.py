"""What the loop asks of a verifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dsrl.errors import ConfigError, DSRLError
from dsrl.types import Prompt, Rollouts


class Scorer(Protocol):
    """The least that a registered verifier must have."""

    def score(self, rollouts: Rollouts) -> Tensor:
        """Rewards [B, G]."""


@dataclass(kw_only=True)
class Verifier:
    """Base of verifiers. A subclass gives `score_one`, or `score_all` where it scores a batch at once.

    A response is untrusted text: one that cannot be read scores 0. A prompt is the user's data: one without the ground
    truth that a verifier needs raises (`ground_truth`).
    """

    def score(self, rollouts: Rollouts) -> Tensor:
        """Rewards [B, G] float32. Raises DSRLError where `score_all` returned another number of scores than N."""
        prompts = [rollouts.prompt_of(row) for row in range(len(rollouts.texts))]
        scores = self.score_all(rollouts.texts, prompts)
        if len(scores) != len(prompts):
            raise DSRLError(f"{type(self).__name__}: {len(scores)} scores for {len(prompts)} responses")
        return torch.tensor(scores, dtype=torch.float32).view(len(rollouts.prompts), rollouts.responses_per_prompt)

    def judge(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """Rewards and the named components that they are made of, each [B, G]; by default no components."""
        return self.score(rollouts), {}

    def score_all(self, responses: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """Rewards of N responses, in their order; response n answers prompts[n]."""
        return [self.score_one(response, prompt) for response, prompt in zip(responses, prompts, strict=True)]

    def score_one(self, response: str, prompt: Prompt) -> float:
        """The reward of one response."""
        raise NotImplementedError

    def answer(self, response: str) -> str:
        """What is taken for the answer in a response, for people to read."""
        return response.strip()

    def close(self) -> None:
        """Let go of processes and files. May be called twice; a verifier that scores again starts again."""


def judge(verifier: Scorer, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
    """Rewards and named components, each [B, G] float32, of any verifier, also of one that has `score` alone.

    Raises DSRLError for a tensor that is not [B, G] or not finite.
    """
    rewards, components = verifier.judge(rollouts) if isinstance(verifier, Verifier) else (verifier.score(rollouts), {})
    shape = len(rollouts.prompts), rollouts.responses_per_prompt
    for label, scores in (("rewards", rewards), *components.items()):
        if not isinstance(scores, Tensor) or scores.shape != shape:
            found = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise DSRLError(f"{type(verifier).__name__}: {label} must be a tensor [B, G] = {list(shape)}, not {found}")
        if not scores.isfinite().all():
            raise DSRLError(f"{type(verifier).__name__}: {label} are not all finite: {scores.tolist()}")
    return rewards.float(), {name: scores.float() for name, scores in components.items()}


def ground_truth(prompt: Prompt) -> str:
    """The prompt's ground truth, stripped. Raises ConfigError where there is none: to score 0 would teach noise."""
    truth = prompt.answer.strip()
    if not truth:
        source = f" of data source '{prompt.data_source}'" if prompt.data_source else ""
        raise ConfigError(
            f"a row{source} has no ground truth to compare answers with; give it reward_model.ground_truth or answer, "
            f"or remove it. Its question begins {prompt.text[:80]!r}"
        )
    return truth
