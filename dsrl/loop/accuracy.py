"""Accuracy on held-out questions from k samples each: avg@k, and pass@j for every j up to k."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from dsrl.types import CORRECT_THRESHOLD


class SampledAccuracy(Metric):
    """Average avg@k and pass@j, for every j up to k, over questions with k sampled responses each.

    A response without a reward, which is NaN, does not count: avg@k is over questions with any that has one, and pass@j
    over those with at least j.
    """

    full_state_update = False
    questions: Tensor
    average: Tensor
    passed: Tensor

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.add_state("questions", torch.zeros(k, dtype=torch.float64), dist_reduce_fx="sum")  # with at least j
        self.add_state("average", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("passed", torch.zeros(k, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, rewards: Tensor, threshold: float = CORRECT_THRESHOLD) -> None:
        """Add questions: rewards [B, k]. avg@k is their mean; a response with more than `threshold` is correct."""
        right, judged = (rewards > threshold).sum(-1).tolist(), (~rewards.isnan()).sum(-1).tolist()
        self.average += rewards.double().nanmean(-1).nansum()
        for correct, count in zip(right, judged, strict=True):
            for j in range(1, count + 1):
                self.questions[j - 1] += 1
                self.passed[j - 1] += pass_at(j, count, correct)

    def compute(self) -> dict[str, Tensor]:
        """Give {"avg@k", "pass@1", ..., "pass@k", "questions"}, how many they are; without any the others are NaN."""
        passed = {f"pass@{j}": self.passed[j - 1] / self.questions[j - 1] for j in range(1, self.k + 1)}
        return {f"avg@{self.k}": self.average / self.questions[0], **passed, "questions": self.questions[0]}


def pass_at(j: int, samples: int, right: int) -> float:
    """Compute the probability that j of `samples` responses, `right` of them correct, contain a correct one.

    They are drawn without replacement: the unbiased estimator 1 - C(n - c, j) / C(n, j) (arXiv 2107.03374, equation 1).
    """
    return 1.0 - math.comb(samples - right, j) / math.comb(samples, j)
