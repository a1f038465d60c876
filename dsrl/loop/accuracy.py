"""Accuracy on held-out questions from k samples each: avg@k, and pass@j for every j up to k."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from dsrl.types import CORRECT_THRESHOLD


class SampledAccuracy(Metric):
    """Average avg@k and pass@j, for every j up to k, over questions with k sampled responses each."""

    full_state_update = False
    questions: Tensor
    average: Tensor
    passed: Tensor

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.add_state("questions", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("average", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("passed", torch.zeros(k, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, rewards: Tensor, threshold: float = CORRECT_THRESHOLD) -> None:
        """Add questions: rewards [B, k]. avg@k is their mean; a response with more than `threshold` is correct."""
        right = (rewards > threshold).sum(-1)
        self.questions += len(rewards)
        self.average += rewards.double().mean(-1).sum()
        for j in range(1, self.k + 1):
            self.passed[j - 1] += sum(pass_at(j, self.k, int(count)) for count in right)

    def compute(self) -> dict[str, Tensor]:
        """Give {"avg@k", "pass@1", ..., "pass@k", "questions"}, how many they are; without any the others are NaN."""
        passed = {f"pass@{j}": self.passed[j - 1] / self.questions for j in range(1, self.k + 1)}
        return {f"avg@{self.k}": self.average / self.questions, **passed, "questions": self.questions}


def pass_at(j: int, samples: int, right: int) -> float:
    """Compute the probability that j of `samples` responses, `right` of them correct, contain a correct one.

    They are drawn without replacement: the unbiased estimator 1 - C(n - c, j) / C(n, j) (arXiv 2107.03374, equation 1).
    """
    return 1.0 - math.comb(samples - right, j) / math.comb(samples, j)
