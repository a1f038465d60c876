"""Texts that nobody sampled, as the rollouts that verifiers score."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dsrl.types import Prompt, Rollouts


def rollouts_of_texts(
    responses: Sequence[str], prompts: Sequence[Prompt], token_ids: Sequence[Sequence[int]] | None = None
) -> Rollouts:
    """Make rollouts [N, T] with one response to each of N prompts; T is 0 where there are no token ids."""
    ids = [[]] * len(responses) if token_ids is None else token_ids
    lengths = torch.tensor([len(own) for own in ids], dtype=torch.long)
    mask = torch.arange(int(lengths.max()) if len(lengths) else 0) < lengths[:, None]
    tokens = torch.zeros(mask.shape, dtype=torch.long)
    tokens[mask] = torch.tensor([token for own in ids for token in own], dtype=torch.long)
    return Rollouts(
        prompts=list(prompts),
        tokens=tokens,
        mask=mask,
        logprobs=torch.zeros(mask.shape),
        texts=list(responses),
        finish_reasons=["stop"] * len(responses),
    )
