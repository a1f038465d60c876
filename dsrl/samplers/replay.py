"""Sampler `replay`: the rollouts that another run recorded, in the place of new ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dsrl.data.encoding import PromptEncoder
from dsrl.errors import ConfigError, DSRLError
from dsrl.registry import build, register
from dsrl.samplers.sampler import Sampler
from dsrl.storage.rollout_files import RecordHead, read_head, read_rollouts, recorded_files
from dsrl.types import Metrics, Prompt, Rollouts, SamplingParams

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from dsrl.models.policy import Policy

REWARDS = ("recorded", "verifier")


@register("sampler", "replay")
@dataclass(kw_only=True)
class ReplaySampler(Sampler):
    """Train on the rollouts of a run with `record=all`: iteration i on those of its iteration i.

    Prompts, responses, log-probabilities and rewards are the recorded ones, so that two objectives differ by nothing
    but themselves, and a run can be gone through again. Any number of ranks may replay what any number recorded.

    The policy that learns is soon another one than the policy that wrote the responses. `mismatch/*` says how far it
    is away, in every iteration in which log-probabilities given the prompt are at hand and every `mismatch.every`
    otherwise; `mismatch.correction=on` weighs each token by the truncated ratio of the two.

    Validations draw from the policy itself, by another sampler.
    """

    run: str
    """Run folder with `rollouts/`."""
    rewards: str = "recorded"
    """What responses are worth: recorded, or verifier: computed anew by the verifier of this run."""
    validation: Any = "hf"
    """Sampler of validations: hf, or {name: vllm, parameter: value}."""

    def __post_init__(self) -> None:
        """Raises ConfigError for what is no sampler of validations."""
        if self.rewards not in REWARDS:
            raise ConfigError(f"sampler.rewards={self.rewards}: allowed are {', '.join(REWARDS)}")
        self._validation = build("sampler", self.validation)
        if not self._validation.on_policy:
            raise ConfigError(f"sampler.validation={self.validation}: validations need responses of the policy itself")

    @property
    def folder(self) -> Path:
        """Where the recorded rollouts are."""
        return Path(self.run).expanduser() / "rollouts"

    @cached_property
    def files(self) -> Mapping[int, list[Path]]:
        """The files of each recorded iteration."""
        return recorded_files(self.folder)

    @cached_property
    def head(self) -> RecordHead:
        """What the first file says of its responses. Raises DSRLError where it cannot be read."""
        return read_head(next(iter(self.files.values()))[0])

    def check(self) -> list[str]:
        """Return what is wrong with the record."""
        if not self.files:
            return [f"sampler.run={self.run}: there are no recorded rollouts; a run writes them with record=all"]
        try:
            _ = self.head
        except DSRLError as error:
            return [f"sampler.run={self.run}: {error}"]
        return []

    def check_architecture(self, architecture: PreTrainedConfig) -> None:
        """Raise ConfigError for a model of which validations cannot be sampled; see `Sampler`."""
        self._validation.check_architecture(architecture)

    def setup(self, policy: Policy, encoder: PromptEncoder) -> None:
        """Check that the tokenizer is the recorded run's, and get ready for validations.

        Raises ConfigError where tokens were recorded that are other texts, or none, here.
        """
        super().setup(policy, encoder)
        iteration, paths = next(iter(self.files.items()))
        recorded = read_rollouts(paths, [0])
        tokens = [row[keep].tolist() for row, keep in zip(recorded.tokens, recorded.mask, strict=True)]
        if self.decode(tokens) != recorded.texts:
            raise ConfigError(
                f"sampler.run={self.run}: recorded with another tokenizer: the tokens of iteration {iteration} are "
                "other texts in this model's"
            )
        self._validation.setup(policy, encoder)

    def check_logprobs(self) -> None:
        """Check those of validations; what is recorded was drawn elsewhere."""
        self._validation.check_logprobs()

    def sample(self, prompts: list[Prompt], params: SamplingParams) -> Rollouts:
        """Read the recorded groups in the places of these prompts; their own prompts come with them.

        Raises DSRLError where they are not there, or were drawn in another way.
        """
        paths = self.files.get(params.iteration)
        if paths is None:
            raise DSRLError(f"sampler.run={self.run}: the rollouts of iteration {params.iteration} are not recorded")
        drawn = read_head(paths[0]).params
        if different := [
            f"{field.name} {getattr(drawn, field.name)}, now {getattr(params, field.name)}"
            for field in dataclasses.fields(SamplingParams)
            if field.name != "seed" and getattr(drawn, field.name) != getattr(params, field.name)
        ]:
            raise DSRLError(
                f"sampler.run={self.run}: iteration {params.iteration} was recorded with {'; '.join(different)}"
            )
        rollouts = read_rollouts(paths, [prompt.position for prompt in prompts])
        return rollouts if self.rewards == "recorded" else dataclasses.replace(rollouts, rewards=None)

    @property
    def on_policy(self) -> bool:
        """False: the policy that wrote the responses is another one."""
        return False

    @property
    def for_validation(self) -> Sampler:
        """The sampler of validations."""
        return self._validation  # type: ignore[no-any-return]

    @property
    def compute_dtype(self) -> str | None:
        """The dtype in which the recorded run's sampler computed, so that its correction is this run's, too."""
        return self.head.compute_dtype

    def sync(self, named_tensors: Iterable[tuple[str, Tensor]]) -> Metrics | None:
        """Give the weights to the sampler of validations."""
        return self.for_validation.sync(named_tensors)

    @property
    def sync_dtype(self) -> torch.dtype | None:
        """That of the sampler of validations."""
        return self.for_validation.sync_dtype

    @property
    def max_length(self) -> int | None:
        """That of the sampler of validations."""
        return self.for_validation.max_length

    def sleep(self) -> None:
        """Let the sampler of validations sleep."""
        self.for_validation.sleep()

    def close(self) -> None:
        """Close the sampler of validations."""
        self.for_validation.close()
