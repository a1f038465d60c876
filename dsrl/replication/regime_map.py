"""Where dsrl leads over grpo, and where it does not: cells around the defaults, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from dsrl.replication.arms import ARMS
from dsrl.replication.bootstrap import Interval, over_seeds_and_questions
from dsrl.replication.jobs import run_jobs
from dsrl.replication.measured import read_curve
from dsrl.replication.settings import Settings
from dsrl.replication.study import run_job

ARMS_OF_MAP = ("grpo", "dsrl")
MARGINAL = "marginal/logprob"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A cell before it is measured.

    Args:
        axis: what is varied.
        value: how, in a word; "-" of the center.
        words: of `python train.py`, for both arms.
        of_dsrl: further words, for dsrl alone.
        rate: learning rate; None: that of the settings.
        world: where it is.
    """

    axis: str
    value: str
    words: tuple[str, ...] = ()
    of_dsrl: tuple[str, ...] = ()
    rate: float | None = None
    world: str = "arithmetic"


PLACES = (
    Place(axis="defaults", value="-"),
    Place(axis="warm-up, iterations", value="2", of_dsrl=("phase2.start=2",)),
    Place(axis="warm-up, iterations", value="10", of_dsrl=("phase2.start=10",)),
    Place(axis="learning rate", value="3e-5", rate=3e-5),
    Place(axis="learning rate", value="3e-4", rate=3e-4),
    Place(axis="negative", value="every wrong answer", of_dsrl=("objective.advantage=signed",)),
    Place(axis="responses to a prompt", value="4", words=("responses_per_prompt=4", "prompts_per_iteration=64")),
    Place(axis="responses to a prompt", value="16", words=("responses_per_prompt=16", "prompts_per_iteration=16")),
    Place(axis="digits of a number", value="3", words=("data.digits=3",)),
    Place(axis="what retries are worth", value="all (world retry)", world="retry"),
)
"""The cells, one axis at a time around the defaults. Those that vary G keep the number of responses of an iteration."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What was found in a cell: areas under the curves by arm, and that of dsrl less that of grpo.

    `moved` is the mean change of log P(y) of a token over the warm-up, in nats; NaN where it was not measured.
    """

    place: Place
    base: float
    areas: Mapping[str, float]
    ends: Mapping[str, float]
    difference: Interval
    moved: float
    seeds: int

    @property
    def title(self) -> str:
        """Its axis and value."""
        return self.place.axis if self.place.value == "-" else f"{self.place.axis}: {self.place.value}"

    @property
    def leader(self) -> str:
        """The arm whose lead the interval shows; "neither" where it holds 0."""
        if self.difference.low > 0:
            return "dsrl"
        return "grpo" if self.difference.high < 0 else "neither"

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return {
            "axis": self.place.axis,
            "value": self.place.value,
            "world": self.place.world,
            "words": [*self.place.words, *self.place.of_dsrl],
            "base": self.base,
            "area": dict(self.areas),
            "end": dict(self.ends),
            "difference": self.difference.value,
            "interval": [self.difference.low, self.difference.high],
            "warm_up_moved": None if np.isnan(self.moved) else self.moved,
            "leads": self.leader,
            "seeds": self.seeds,
        }


def measure_map(settings: Settings, console: Console, places: Sequence[Place] = PLACES) -> list[Cell]:
    """Run both arms in every cell, on every seed. Raises DSRLError where a run has failed."""
    arms = {arm.name: arm for arm in ARMS}
    jobs, folders = {}, {}
    for number, place in enumerate(places):
        for name in ARMS_OF_MAP:
            # Cells that vary the warm-up alone have the grpo of the defaults.
            same = name == "grpo" and not place.words and place.rate is None and place.world == "arithmetic"
            base = settings.out / f"cell{0 if same else number}"
            for seed in settings.seeds:
                folder = base / name / f"seed{seed}"
                folders[number, name, seed] = folder
                own = place.words if name == "grpo" else (*place.words, *place.of_dsrl)
                jobs[folder] = run_job(
                    settings,
                    place.world,
                    arms[name],
                    folder,
                    seed,
                    {name: place.rate or settings.learning_rates[0]},
                    own,
                )
    run_jobs(list(jobs.values()), at_once=settings.jobs, console=console, title="map: runs")
    return [
        _cell(
            place,
            {name: [folders[number, name, seed] for seed in settings.seeds] for name in ARMS_OF_MAP},
        )
        for number, place in enumerate(places)
    ]


def _cell(place: Place, folders: Mapping[str, Sequence[Any]]) -> Cell:
    curves = {name: [read_curve(folder) for folder in own] for name, own in folders.items()}
    areas = {name: np.stack([curve.area for curve in own]) for name, own in curves.items()}
    scored = [[row[MARGINAL] for row in curve.metrics if row.get(MARGINAL) is not None] for curve in curves["dsrl"]]
    moved = [own[-1] - own[0] for own in scored if len(own) > 1]
    return Cell(
        place=place,
        base=float(np.mean([curve.accuracy[0].mean() for curve in curves["grpo"]])),
        areas={name: float(area.mean()) for name, area in areas.items()},
        ends={name: float(np.mean([curve.accuracy[-1].mean() for curve in own])) for name, own in curves.items()},
        difference=over_seeds_and_questions(areas["dsrl"] - areas["grpo"]),
        moved=float(np.mean(moved)) if moved else float("nan"),
        seeds=len(curves["dsrl"]),
    )
