"""`length`: DAPO's equation 13."""

from __future__ import annotations

import pytest
import torch

from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.types import Prompt, Rollouts


def rollouts_of(*lengths: int) -> Rollouts:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Rollouts(
        prompts=[Prompt(position=position, text="", token_ids=(1,)) for position in range(2)],
        tokens=mask.long(),
        mask=mask,
        logprobs=torch.zeros(mask.shape),
        texts=[""] * len(lengths),
        finish_reasons=["stop"] * len(lengths),
    )


def test_nothing_then_a_line_then_minus_one() -> None:
    verifier = build("verifier", {"name": "length", "max_length": 20, "cache": 8})
    rewards = verifier.score(rollouts_of(0, 1, 12, 13, 14, 16, 19, 20, 21, 40))
    assert rewards.tolist() == [[0, 0, 0, -0.125, -0.25], [-0.5, -0.875, -1, -1, -1]]


def test_the_papers_own_numbers() -> None:
    verifier = build("verifier", {"name": "length", "max_length": 20480, "cache": 4096})
    assert verifier.score(rollouts_of(16384, 18432, 20480, 30000)).flatten().tolist() == [0, -0.5, -1, -1]


@pytest.mark.parametrize("parameters", [{"max_length": 10, "cache": 11}, {"max_length": 10, "cache": 0}])
def test_impossible_parameters(parameters: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"cache=\d+ must be from 1 to max_length=10, in tokens"):
        build("verifier", {"name": "length", **parameters})
