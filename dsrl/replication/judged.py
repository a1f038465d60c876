"""Findings with their verdicts, as claims.json has them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dsrl.replication.claims import Finding
from dsrl.replication.study import Study
from dsrl.replication.verdicts import UNDECIDED, holm, seeds_to_decide, verdict
from dsrl.runs.lines import strict

LARGEST = 700.0
"""Of a logarithm: there is no float for the exponential of more."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A finding in its world, the p-value that Holm's correction makes of its own, and what follows."""

    world: str
    finding: Finding
    adjusted_p: float
    verdict: str
    seeds_needed: int | None
    """Of an undecided claim: about how many seeds would decide; None where that cannot be said."""

    @property
    def note(self) -> str:
        """What keeps the claim undecided, and what would decide it; empty where nothing is to be said."""
        if self.finding.rare:
            return "too rare to judge"
        if self.finding.seeds == 1:
            return "one seed says nothing of how much runs differ"
        return f"about {self.seeds_needed} seeds would decide" if self.seeds_needed else ""

    @property
    def shown(self) -> tuple[float | None, float | None, float | None]:
        """The estimate and the ends of its interval; a ratio is a ratio and not its logarithm. What is not finite is
        None.
        """
        ratio, found = self.finding.ratio, self.finding.estimate
        value, low, high = (
            math.exp(number) if ratio and number < LARGEST else number
            for number in (found.value, found.low, found.high)
        )
        return strict(value), strict(low), strict(high)

    def as_json(self, command: str) -> dict[str, Any]:
        """Give plain values, as `shown`."""
        finding = self.finding
        value, low, high = self.shown
        return {
            "name": finding.name,
            "world": self.world,
            "claim": finding.claim,
            "endpoint": finding.endpoint,
            "verdict": self.verdict,
            "estimate": value,
            "interval": [low, high],
            "p": finding.estimate.p,
            "p_adjusted": self.adjusted_p,
            "seeds": finding.seeds,
            "seeds_needed": self.seeds_needed,
            "too_rare": finding.rare,
            "beside": [strict(dataclasses.asdict(shown)) for shown in finding.beside],
            "command": command,
        }


def judge(studies: Sequence[Study]) -> list[Judged]:
    """Judge the claims of each world, with Holm's correction over those of a world. A single seed decides nothing."""
    found = []
    for study in studies:
        adjusted = holm({finding.name: finding.estimate.p for finding in study.findings})
        for finding in study.findings:
            p = adjusted[finding.name]
            word, needed = UNDECIDED, None
            if not finding.rare and finding.seeds > 1 and math.isfinite(finding.estimate.value):
                word = verdict(finding.estimate, p, null=finding.null, margin=finding.margin)
                if word == UNDECIDED:
                    needed = seeds_to_decide(finding.estimate, finding.seeds, margin=finding.margin)
            found.append(Judged(world=study.world, finding=finding, adjusted_p=p, verdict=word, seeds_needed=needed))
    return found
