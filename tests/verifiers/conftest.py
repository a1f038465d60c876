"""Rollouts from texts, for verifiers that read nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from dsrl.types import Prompt, Rollouts

MakeRollouts = Callable[[Sequence[Sequence[str]], Sequence[str]], Rollouts]


@pytest.fixture(scope="session")
def make_rollouts() -> MakeRollouts:
    """(G texts for each of B prompts, B ground truths) -> Rollouts."""

    def make(texts: Sequence[Sequence[str]], truths: Sequence[str]) -> Rollouts:
        flat = [text for group in texts for text in group]
        return Rollouts(
            prompts=[
                Prompt(
                    position=position,
                    text=f"question {position}",
                    token_ids=(1,),
                    ground_truth=truth,
                    data_source="set",
                )
                for position, truth in enumerate(truths)
            ],
            tokens=torch.ones(len(flat), 1, dtype=torch.long),
            mask=torch.ones(len(flat), 1, dtype=torch.bool),
            logprobs=torch.zeros(len(flat), 1),
            texts=flat,
            finish_reasons=["stop"] * len(flat),
        )

    return make
