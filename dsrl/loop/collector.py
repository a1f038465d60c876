"""Prompts -> rollouts -> rewards, in training and in validation."""

from __future__ import annotations

import dataclasses
from typing import Any

import lightning as L
import torch
from torch import Tensor

from dsrl.config.run_config import RunConfig
from dsrl.config.schema import SamplingConfig
from dsrl.data.datamodule import PromptData
from dsrl.data.encoding import PromptEncoder
from dsrl.loop.metrics import SampledAccuracy, Stopwatch, replace_components
from dsrl.parallel.collectives import all_max
from dsrl.phases.phase import Phase
from dsrl.samplers import Sampler
from dsrl.seeding import derive_seed
from dsrl.types import Prompt, Rollouts, SamplingParams
from dsrl.verifiers import compute_rewards


class Collecting(L.LightningModule):
    """The loop's first half: what is asked, how it is answered, what the answers are worth to the verifier."""

    config: RunConfig
    phase: Phase
    encoder: PromptEncoder
    sampler: Sampler
    verifier: Any
    clock: Stopwatch
    accuracies: torch.nn.ModuleDict
    components: dict[str, Tensor]
    summed: dict[str, tuple[float, str]]
    validated: dict[str, float]
    validated_at: int

    @property
    def iteration(self) -> int:
        """The iteration under way, from 0: Lightning's epoch."""
        return self.trainer.current_epoch

    def verify(self, rollouts: Rollouts) -> Tensor:
        """Rewards [B, G] float32, on the CPU. Raises DSRLError where the verifier returns another shape or a NaN."""
        rewards, components = compute_rewards(self.verifier, rollouts)
        self.components = {name: values.cpu() for name, values in components.items()}
        return rewards.cpu()

    def refill(self, rollouts: Rollouts, rewards: Tensor) -> tuple[Rollouts, Tensor]:
        """Replace groups whose rewards are all equal by another question, so many times at most (dynamic sampling,
        arXiv 2503.14476 section 3.2); what was asked and how it was answered is noted for the curriculum.
        """
        data: PromptData = self.trainer.datamodule  # type: ignore[attr-defined]
        data.curriculum.update(rollouts.prompts, rewards)
        asked, sampled = 0, float(rollouts.lengths.sum())
        for _ in range(self.config.dynamic_sampling):
            silent = (rewards == rewards[:, :1]).all(-1).nonzero()[:, 0]
            if not all_max(len(silent), self.device):
                break
            with self.clock("sample"):
                others = [data.batches.replacement_for(rollouts.prompts[group], self.iteration) for group in silent]
                fresh = self.sampler.sample(others, self.sampling_params(self.phase.sampling))
            with self.clock("verify"):
                components, of_fresh = self.components, self.verify(fresh)
            data.curriculum.update(others, of_fresh)
            sampled += float(fresh.lengths.sum())
            if others:  # else they are other ranks'
                rollouts, asked = rollouts.replacing(silent.tolist(), fresh), asked + len(others)
                rewards = rewards.index_copy(0, silent, of_fresh)
                components = replace_components(components, self.components, silent)
            self.components = components
        if self.config.dynamic_sampling:
            self.summed |= {"dynamic_sampling/prompts": (float(asked), ""), "tokens/sampled": (sampled, "")}
        return rollouts, rewards

    def sampling_params(self, sampling: SamplingConfig) -> SamplingParams:
        """How this iteration's training samples are drawn."""
        return SamplingParams(
            responses_per_prompt=self.config.responses_per_prompt,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            stop_token_ids=tuple(self.encoder.token_id(token) for token in sampling.stop),
            seed=self.config.seed,
            iteration=self.iteration,
        )

    def validation_params(self, name: str) -> SamplingParams:
        """How a validation set's samples are drawn: every time with the same random numbers."""
        return dataclasses.replace(
            self.sampling_params(self.phase.sampling),
            responses_per_prompt=self.config.validation.k,
            temperature=self.config.validation.temperature,
            top_p=1.0,
            top_k=0,
            seed=derive_seed("validation", self.config.seed, name),
            iteration=0,
        )

    def validation_step(self, prompts: list[Prompt], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Sample `validation.k` answers to each held-out question of a batch, and count those that are right."""
        name = self.validation_sets[dataloader_idx]
        rollouts = self.sampler.sample(prompts, self.validation_params(name))
        if prompts:
            self.accuracy(name).update(self.verify(rollouts))

    def on_validation_epoch_end(self) -> None:
        """`val/SET/avg@k` and `val/SET/pass@j` of every set, over all ranks."""
        self.validated = {}
        for name in self.validation_sets:
            for key, value in self.accuracy(name).compute().items():
                self.validated[f"val/{name}/{key}"] = float(value)
            self.accuracy(name).reset()
        self.validated_at = self.iteration if self.trainer.sanity_checking else self.iteration + 1
        self.log_dict({**self.validated, "step": float(self.validated_at)}, batch_size=1)

    @property
    def validation_sets(self) -> list[str]:
        """Names of the validation sets, in the order of their dataloaders."""
        names: list[str] = self.trainer.datamodule.val_names  # type: ignore[attr-defined]
        return names

    def accuracy(self, name: str) -> SampledAccuracy:
        """The metric of a validation set."""
        key = str(self.validation_sets.index(name))  # a module's name cannot hold the dot that a file's may
        if key not in self.accuracies:
            self.accuracies[key] = SampledAccuracy(self.config.validation.k).to(self.device)
        metric = self.accuracies[key]
        assert isinstance(metric, SampledAccuracy)
        return metric
