"""Compare an engine's log-probabilities with the trainer's: no checksum shows a layer packed from earlier weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsrl.errors import DSRLError

if TYPE_CHECKING:
    from dsrl.models.policy import Policy

PROBE_TOKENS = 48
"""Length of the fixed sequence that trainer and engine both score after every sync."""

PROBE_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.5, "float16": 0.1}
"""The largest mean difference between their log-probabilities, by the engine's dtype."""


def probe_tokens(policy: Policy, longest: int) -> Tensor:
    """Draw the fixed sequence [P] long, for an engine that scores at most `longest` tokens."""
    size = int(policy.model.config.get_text_config().vocab_size)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(size, (min(PROBE_TOKENS, longest - 1),), generator=generator)


@torch.no_grad()
def check_probe(policy: Policy, tokens: Tensor, found: Sequence[float], tolerance: float, sync: int) -> None:
    """Raise DSRLError if engine and trainer differ. A collective where the policy is sharded.

    Args:
        policy: the trainer's.
        tokens: the sequence, [P].
        found: the engine's log-probabilities of all tokens but the first.
        tolerance: the largest mean difference, in nats.
        sync: the number of the sync, for the message.
    """
    from dsrl.parallel.sharding import reshard  # loads FSDP

    device = policy.device
    mask = torch.ones(1, len(tokens) - 1, dtype=torch.bool, device=device)
    expected = policy([tokens[:1].tolist()], tokens[None, 1:].to(device), mask)[0].cpu()
    reshard(policy.model)  # what the forward gathered would stay while the engine samples
    difference = float((torch.tensor(found) - expected).abs().mean())
    if not difference <= tolerance:
        raise DSRLError(
            f"sampler vllm: after sync {sync} the engine's log-probabilities of a fixed sequence differ from "
            f"the trainer's by {difference:.2g} on average, more than sampler.probe_tolerance={tolerance:g}; it "
            "does not serve the policy's weights, or computes the model in another way"
        )
