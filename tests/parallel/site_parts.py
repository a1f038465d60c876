"""Parts for runs in these tests, registered through DSRL_PLUGINS."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

from dsrl import register
from dsrl.config.schema import ModelConfig
from dsrl.data.encoding import PromptEncoder
from dsrl.models.loading import load_model
from dsrl.models.policy import Policy
from dsrl.samplers.hf import HFSampler
from dsrl.types import Rollouts
from dsrl.verifiers.exact import Exact


@register("sampler", "frozen")
@dataclass(kw_only=True)
class FrozenSampler(HFSampler):
    """Decodes with the base model for ever, one prompt at a time: the rollouts of an iteration are the same bits
    whatever the policy has learned and however many ranks there are."""

    batch_size: int = 1

    def setup(self, policy: Policy, encoder: PromptEncoder) -> None:
        super().setup(Policy(load_model(ModelConfig(name="tiny"))), encoder)

    def sync(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        for _ in named_tensors:
            pass


@register("verifier", "hangs")
@dataclass(kw_only=True)
class HangingVerifier(Exact):
    """Hangs on rank 1, in the fourth iteration."""

    calls: int = 0

    def score(self, rollouts: Rollouts) -> Tensor:
        self.calls += 1
        if self.calls > 3 and dist.get_rank() == 1:
            time.sleep(1000)
        return super().score(rollouts)
