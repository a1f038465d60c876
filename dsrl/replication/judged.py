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


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A finding in its world, the p-value that Holm's correction makes of its own, and what follows."""

    world: str
    finding: Finding
    adjusted_p: float
    verdict: str
    seeds_needed: int | None
    """Of an undecided claim: about how many seeds would decide; None where that cannot be said."""

    def as_json(self, command: str) -> dict[str, Any]:
        """Give plain values; a ratio is a ratio and not its logarithm. What is not finite is None."""
        finding = self.finding
        interval = finding.estimate

        def plain(value: float) -> float | None:
            shown = math.exp(value) if finding.ratio and value < 700 else value
            return shown if math.isfinite(shown) else None

        return {
            "name": finding.name,
            "world": self.world,
            "claim": finding.claim,
            "endpoint": finding.endpoint,
            "verdict": self.verdict,
            "estimate": plain(interval.value),
            "interval": [plain(interval.low), plain(interval.high)],
            "p": interval.p,
            "p_adjusted": self.adjusted_p,
            "seeds": finding.seeds,
            "seeds_needed": self.seeds_needed,
            "too_rare": finding.rare,
            "beside": [dataclasses.asdict(shown) for shown in finding.beside],
            "command": command,
        }


def judge(studies: Sequence[Study]) -> list[Judged]:
    """Judge the claims of each world, with Holm's correction over those of a world."""
    found = []
    for study in studies:
        adjusted = holm({finding.name: finding.estimate.p for finding in study.findings})
        for finding in study.findings:
            p = adjusted[finding.name]
            word = UNDECIDED if finding.rare else verdict(finding.estimate, p, null=finding.null, margin=finding.margin)
            needed = (
                seeds_to_decide(finding.estimate, finding.seeds, margin=finding.margin) if word == UNDECIDED else None
            )
            found.append(Judged(world=study.world, finding=finding, adjusted_p=p, verdict=word, seeds_needed=needed))
    return found
