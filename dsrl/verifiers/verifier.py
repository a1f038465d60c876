"""What the loop asks of a verifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from dsrl.errors import ConfigError, DSRLError
from dsrl.types import Prompt, Rollouts

TAKEN = ("mean", "std")
"""What `reward/...` of the whole reward is called in the metrics."""


class SupportsScore(Protocol):
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

    def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """Rewards and the named components that they are made of, each [B, G]; by default no components.

        A component is NaN where it is not applicable. One called `applicable` is 0 where the verifier itself is not.
        """
        return self.score(rollouts), {}

    def score_all(self, responses: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """Rewards of N responses, in their order; response n answers prompts[n]."""
        return [self.score_one(response, prompt) for response, prompt in zip(responses, prompts, strict=True)]

    def score_one(self, response: str, prompt: Prompt) -> float:
        """The reward of one response."""
        raise NotImplementedError

    def extract_answer(self, response: str) -> str:
        """What is taken for the answer in a response, for people to read."""
        return response.strip()

    def extract_answers(self, rollouts: Rollouts) -> list[str]:
        """What is taken for the answer in each of N responses."""
        return [self.extract_answer(text) for text in rollouts.texts]

    def check(self) -> list[str]:
        """Problems that can be seen before anything is loaded, such as a missing file."""
        return []

    def close(self) -> None:
        """Let go of processes and files. May be called twice; a verifier that scores again starts again."""


def compute_rewards(verifier: SupportsScore, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
    """Rewards and named components, each [B, G] float32, of any verifier, also of one that has `score` alone.

    Raises DSRLError for a tensor that is not [B, G] or not finite; a component may be NaN, where it is not applicable.
    """
    if isinstance(verifier, Verifier):
        rewards, components = verifier.score_with_components(rollouts)
    else:
        rewards, components = verifier.score(rollouts), {}
    shape = len(rollouts.prompts), rollouts.responses_per_prompt
    if taken := [name for name in components if name in TAKEN]:
        raise DSRLError(
            f"{type(verifier).__name__}: a component cannot be called {taken[0]}: that is the whole reward's"
        )
    for label, scores in (("rewards", rewards), *components.items()):
        if not isinstance(scores, Tensor) or scores.shape != shape:
            found = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise DSRLError(f"{type(verifier).__name__}: {label} must be a tensor [B, G] = {list(shape)}, not {found}")
        finite = scores.isfinite() if label == "rewards" else ~scores.isinf()
        if not finite.all():
            raise DSRLError(f"{type(verifier).__name__}: {label} are not all finite: {scores.tolist()}")
    return rewards.float(), {name: scores.float() for name, scores in components.items()}


def problems_of(verifier: Any) -> list[str]:
    """Those that a verifier finds itself, where it looks for any."""
    check: Callable[[], list[str]] = getattr(verifier, "check", list)
    return check()


def extracted_answers_of(verifier: Any, rollouts: Rollouts) -> list[str]:
    """What a verifier takes for the answer in each of N responses; the response where it does not say."""
    if isinstance(verifier, Verifier):
        return verifier.extract_answers(rollouts)
    read: Callable[[str], str] = getattr(verifier, "extract_answer", str.strip)
    return [read(text) for text in rollouts.texts]


def close_all(verifiers: Iterable[Any]) -> None:
    """Close those that can be closed."""
    for verifier in verifiers:
        getattr(verifier, "close", lambda: None)()


def rows_of(rollouts: Rollouts, prompts: Sequence[int]) -> Rollouts:
    """The rollouts of some of their prompts, in the order of `prompts`."""
    size = rollouts.responses_per_prompt
    rows = [prompt * size + response for prompt in prompts for response in range(size)]
    return dataclasses.replace(
        rollouts,
        prompts=[rollouts.prompts[prompt] for prompt in prompts],
        tokens=rollouts.tokens[rows],
        mask=rollouts.mask[rows],
        logprobs=rollouts.logprobs[rows],
        texts=[rollouts.texts[row] for row in rows],
        finish_reasons=[rollouts.finish_reasons[row] for row in rows],
    )


def ground_truth_of(prompt: Prompt) -> str:
    """The prompt's ground truth as text, stripped.

    Raises ConfigError where there is none, or one with parts, such as a mapping: to score 0 would teach noise.
    """
    truth = prompt.ground_truth.strip()
    source = f" of data source '{prompt.data_source}'" if prompt.data_source else ""
    if any(
        isinstance(part, Mapping) for part in (prompt.structured_ground_truth, *(prompt.structured_ground_truth or ()))
    ):
        raise ConfigError(
            f"the ground truth of a row{source} is not text but {prompt.structured_ground_truth!s:.200}: "
            f"verifier=python, for tests, or verifier=function can read it. Its question begins {prompt.text[:80]!r}"
        )
    if not truth:
        raise ConfigError(
            f"a row{source} has no ground truth to compare answers with; give it reward_model.ground_truth or answer, "
            f"or remove it. Its question begins {prompt.text[:80]!r}"
        )
    return truth


def column(prompt: Prompt, name: str) -> Any:
    """What the prompt's row held under `name`, or its extra_info did. Raises ConfigError where it is not there."""
    inner = prompt.extra.get("extra_info")
    for held in (prompt.extra, inner if isinstance(inner, Mapping) else {}):
        if held.get(name) is not None:
            return held[name]
    known = [*prompt.extra, *(inner if isinstance(inner, Mapping) else ())]
    raise ConfigError(
        f"a row of data source '{prompt.data_source}' has no column '{name}'; it has {', '.join(known) or 'none'}. "
        f"Its question begins {prompt.text[:80]!r}"
    )
