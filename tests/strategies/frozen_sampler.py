"""A sampler for comparisons: it decodes with the base model for ever, one prompt at a time, so that the rollouts of an
iteration are the same bits whatever the policy has learned and however many ranks there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from dsrl import register
from dsrl.config.schema import ModelConfig
from dsrl.data.encoding import PromptEncoder
from dsrl.models.loading import load_model
from dsrl.policy import Policy
from dsrl.samplers.hf import HFSampler


@register("sampler", "frozen")
@dataclass(kw_only=True)
class FrozenSampler(HFSampler):
    batch_size: int = 1

    def setup(self, policy: Policy, encoder: PromptEncoder) -> None:
        super().setup(Policy(load_model(ModelConfig(name="tiny"))), encoder)

    def sync(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        for _ in named_tensors:
            pass
