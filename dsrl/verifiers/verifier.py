"""The base class of verifiers, and the functions through which the rest of dsrl uses any verifier.

A registered verifier needs `score` alone (`SupportsScore`). What happens where it has nothing else is decided here, in
one function for each: `compute_rewards`, `extracted_answers_of`, `ground_truth_problem` and others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from dsrl.errors import DSRLError
from dsrl.registry.parts import completed
from dsrl.types import Prompt, Rollouts
from dsrl.verifiers.failures import Failures
from dsrl.verifiers.text_rollouts import rollouts_of_texts

RESERVED = ("mean", "std")
"""Names that no component may have: `reward/mean` and `reward/std` are metrics of the whole reward."""


APPLICABLE = "applicable"
"""The component that says where a verifier applies."""


class SupportsScore(Protocol):
    """Declare the least that a registered verifier must have."""

    def score(self, rollouts: Rollouts) -> Tensor:
        """Compute rewards [B, G], finite; row b holds those of the G responses to prompt b.

        A response may have none, where `score_with_components` says so.
        """


@dataclass(kw_only=True)
class Verifier:
    """Give each response a reward. This is the base class; a subclass implements one of three methods.

    - `score_one`, for one response at a time
    - `score_all`, for N responses at once
    - `score`, where it needs more of the rollouts than their texts, such as lengths in tokens

    A response is untrusted text: where it cannot be read, it scores 0. A prompt is the user's data: where it lacks what
    the verifier needs, the verifier raises ConfigError (`ground_truth_of` and `column_of` do).
    """

    def score(self, rollouts: Rollouts) -> Tensor:
        """Compute rewards [B, G] float32.

        Raises DSRLError where `score_all` returns another number of scores than there are responses.
        """
        prompts = [rollouts.prompt_of(row) for row in range(len(rollouts.texts))]
        scores = self.score_all(rollouts.texts, prompts)
        if len(scores) != len(prompts):
            raise DSRLError(f"{type(self).__name__}: {len(scores)} scores for {len(prompts)} responses")
        return torch.tensor(scores, dtype=torch.float32).view(len(rollouts.prompts), rollouts.responses_per_prompt)

    def score_with_components(self, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute rewards [B, G], and the named components [B, G] that they are made of; by default there are none.

        A component is NaN where it is not applicable, and its mean in the metrics leaves that out. A component named
        `applicable` says where the verifier itself applies: 1 there, 0 elsewhere. Where it does not, the response has
        no reward, whatever stands there, and takes no part in the update.
        """
        return self.score(rollouts), {}

    def score_all(self, responses: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """Compute the rewards of N responses, in their order; prompts [N] holds the prompt of each.

        A response that has no reward has NaN.
        """
        kind = type(self)
        own = kind.score, kind.score_with_components
        if kind.score_one is Verifier.score_one and own != (Verifier.score, Verifier.score_with_components):
            return score_all_of(self, responses, prompts)
        return [self.score_one(response, prompt) for response, prompt in zip(responses, prompts, strict=True)]

    def score_one(self, response: str, prompt: Prompt) -> float:
        """Compute the reward of one response."""
        raise NotImplementedError

    def extract_answer(self, response: str) -> str:
        """Extract the final answer from a response, as people will read it in the run folder."""
        return response.strip()

    def extract_answers(self, rollouts: Rollouts) -> Sequence[str | None]:
        """Extract the final answers of N responses. Override it where that takes the prompts.

        It comes after the score of the same responses. None says that the verifier extracts no answers: there is no
        maj@k then. A response without an answer has an empty one.
        """
        return [self.extract_answer(text) for text in rollouts.texts]

    def check(self) -> list[str]:
        """Return the problems that can be seen before anything is loaded, such as a missing file; none by default."""
        return []

    def ground_truth_problem(self, prompt: Prompt) -> str | None:
        """Say why the ground truth of a row cannot be compared with answers, and which verifier can; None where it can.

        Every row is asked about once, before anything is sampled, and the run ends where there is a problem. By default
        there is none.
        """
        return None

    def summary_of(self, prompts: Sequence[Prompt]) -> list[str]:
        """Say in a line what the verifier makes of the rows of a data set, where people would want to know."""
        return []

    def component_names(self) -> list[str] | None:
        """Name the components of its rewards, before it has scored; None where they are not known."""
        return [] if type(self).score_with_components is Verifier.score_with_components else None

    def take_failures(self) -> list[Failures]:
        """Give what it failed on and scored without having read, since the last call; nothing by default."""
        return []

    def close(self) -> None:
        """Release processes and files. May be called twice; a closed verifier that scores again starts again."""


def compute_rewards(verifier: SupportsScore, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the rewards of rollouts, and the components that they are made of, by any verifier.

    Args:
        verifier: A registered verifier or any other object with `score`. Without `score_with_components` it has no
            components.
        rollouts: B prompts with G responses each.

    Returns:
        Rewards [B, G] float32, finite, but NaN where the component `applicable` is 0; and components by name, each
        [B, G] float32 and NaN where not applicable.

    Raises:
        DSRLError: A tensor is not [B, G], rewards are not finite, a component is infinite or has a reserved name.
    """
    score: Callable[[Rollouts], Any] | None = getattr(verifier, "score_with_components", None)
    rewards, components = score(rollouts) if score else (verifier.score(rollouts), {})
    shape = len(rollouts.prompts), rollouts.responses_per_prompt
    if reserved := [name for name in components if name in RESERVED]:
        raise DSRLError(
            f"{type(verifier).__name__}: a component cannot be called {reserved[0]}: reward/{reserved[0]} is a metric "
            "of the whole reward"
        )
    for label, scores in (("rewards", rewards), *components.items()):
        if not isinstance(scores, Tensor) or scores.shape != shape:
            found = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise DSRLError(f"{type(verifier).__name__}: {label} must be a tensor [B, G] = {list(shape)}, not {found}")
    missing = components[APPLICABLE] == 0 if APPLICABLE in components else torch.zeros_like(rewards, dtype=torch.bool)
    for label, scores in (("rewards", rewards), *components.items()):
        finite = scores.isfinite() | missing.to(scores.device) if label == "rewards" else ~scores.isinf()
        if not finite.all():
            raise DSRLError(f"{type(verifier).__name__}: {label} are not all finite: {scores.tolist()}")
    rewards = rewards.float().masked_fill(missing.to(rewards.device), math.nan)
    return rewards, {name: scores.float() for name, scores in components.items()}


def score_all_of(verifier: SupportsScore, responses: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
    """Compute the rewards of N responses by a verifier that scores rollouts, NaN where one has none."""
    rewards: list[float] = compute_rewards(verifier, rollouts_of_texts(responses, prompts))[0].flatten().tolist()
    return rewards


def with_score_all(verifier: Any) -> Any:
    """Give a verifier that has `score` alone a `score_all`, too."""
    if hasattr(verifier, "score") and not hasattr(verifier, "score_all"):
        with suppress(AttributeError):  # a class with slots has no room for it
            verifier.score_all = partial(score_all_of, verifier)
    return verifier


completed["verifier"] = with_score_all


def may_not_apply(parts: Iterable[SupportsScore]) -> bool:
    """Whether some verifier of several may leave a response without a reward, as far as they say before they score.

    It decides whether a verifier that is made of them has the component `applicable`: always or never, so that its mean
    is over all responses, however these fall to batches and ranks.
    """
    found = [component_names(part) for part in parts]
    return any(names is None or any(name.split("/")[-1] == APPLICABLE for name in names) for names in found)


def extracted_answers_of(verifier: SupportsScore, rollouts: Rollouts) -> list[str | None]:
    """Extract the final answers of N responses, as any verifier reads them.

    By its `extract_answers`, else by its `extract_answer`; where it has neither, an answer is the stripped response.
    None is the answer of a verifier that extracts none.
    """
    extract_all: Callable[[Rollouts], Sequence[str | None]] | None = getattr(verifier, "extract_answers", None)
    if extract_all:
        return list(extract_all(rollouts))
    extract: Callable[[str], str] = getattr(verifier, "extract_answer", str.strip)
    return [extract(text) for text in rollouts.texts]


def ground_truth_problem(verifier: SupportsScore, prompt: Prompt) -> str | None:
    """Say why a verifier cannot hold the ground truth of a row; None where it can, or does not say."""
    problem: Callable[[Prompt], str | None] = getattr(verifier, "ground_truth_problem", lambda _: None)
    return problem(prompt)


def summary_of(verifier: SupportsScore, prompts: Sequence[Prompt]) -> list[str]:
    """Say what a verifier makes of the rows of a data set; nothing where it does not say."""
    summary: Callable[[Sequence[Prompt]], list[str]] = getattr(verifier, "summary_of", lambda _: [])
    return summary(prompts)


def check_verifier(verifier: SupportsScore) -> list[str]:
    """Return the problems that a verifier finds itself before a run; none where it has no `check`."""
    check: Callable[[], list[str]] = getattr(verifier, "check", list)
    return check()


def component_names(verifier: SupportsScore) -> list[str] | None:
    """Name the components of a verifier's rewards, before it has scored; None where they are not known."""
    if not hasattr(verifier, "component_names"):
        return None if hasattr(verifier, "score_with_components") else []
    named: Callable[[], list[str] | None] = verifier.component_names
    return named()


def inner_names(parts: Mapping[str, SupportsScore]) -> list[str] | None:
    """Name the components of a verifier that is made of others, by label; None where those of one are not known."""
    found = {label: component_names(part) for label, part in parts.items()}
    if any(names is None for names in found.values()):
        return None
    every = [path for label, names in found.items() for path in (label, *(f"{label}/{name}" for name in names or ()))]
    return [*every, APPLICABLE] if any(path.endswith(f"/{APPLICABLE}") for path in every) else every


def failures_of(verifier: SupportsScore) -> list[Failures]:
    """Take what a verifier, or each of its parts, failed on since the last call; nothing where it does not say so."""
    take: Callable[[], list[Failures]] = getattr(verifier, "take_failures", list)
    return take()


def close_all(parts: Iterable[object]) -> None:
    """Close each part that has a `close`, as a verifier may and a sampler does."""
    for part in parts:
        getattr(part, "close", lambda: None)()
