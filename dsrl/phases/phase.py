"""A phase: which objective runs from when, and what happens on entry."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dsrl.config.schema import SamplingConfig
from dsrl.objectives import Objective
from dsrl.phases.conditions import Condition

SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """`start` is the iteration (from 0) in which the phase begins, or the condition that ends the phase before it."""

    number: int  # from 1
    name: str  # registered name of the objective
    objective: Objective
    start: int | Condition
    lr: float
    schedule: str = "constant"
    warmup: int = 0
    reset_optimizer: bool = True
    sync_reference: bool = True
    sampling: SamplingConfig

    def learning_rate(self, ran: int, length: int) -> float:
        """The learning rate of the phase's iteration `ran` (from 0), when its schedule spans `length` iterations.

        `warmup` iterations rise to `lr` in equal steps, the last of them at `lr`; linear and cosine then fall towards
        0, which they would reach one iteration after the last.
        """
        if ran < self.warmup:
            return self.lr * (ran + 1) / self.warmup
        progress = min(1.0, (ran - self.warmup) / max(1, length - self.warmup))
        factor = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
        return self.lr * factor[self.schedule]
