"""Where dsrl leads over grpo, and where it does not: cells around the defaults, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dsrl.bounded_mean import CHANGE
from dsrl.replication.arms import ARMS
from dsrl.replication.bootstrap import Interval, over_seeds_and_questions
from dsrl.replication.jobs import Job, run_jobs
from dsrl.replication.measured import answered_in_all, read_curve
from dsrl.replication.places import PLACES, Place
from dsrl.replication.settings import Settings
from dsrl.replication.study import check_line, run_job
from dsrl.worlds.card import training_words
from dsrl.worlds.world_file import load_world

ARMS_OF_MAP = ("grpo", "dsrl")
MARGINAL = "marginal/logprob"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What was found in a cell: areas under the curves by arm, and that of dsrl less that of grpo.

    `moved` is log P(y) of a token that the warm-up learned from, in nats: its mean in the last iteration less that in
    the first, between which there are as many updates as there are iterations, less one; NaN where it was not measured.
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
        return self.place.title

    @property
    def leader(self) -> str:
        """The arm whose lead the interval shows; "neither" where it holds 0, or where there was one seed."""
        if self.seeds == 1:
            return "neither"
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
            "pretrained": [*self.place.pretrained],
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
    """Make the models that places ask for, and run both arms in every cell, on every seed.

    Raises ConfigError before the first run where one's command line is wrong; DSRLError where a run has failed. The
    same call goes on.
    """
    models = [pretrain_job(settings, place) for place in places if place.pretrained]
    run_jobs(models, at_once=settings.jobs, console=console, title="map: models")
    folders = {
        place: {arm: [_folder(settings, place, arm, seed) for seed in settings.seeds] for arm in ARMS_OF_MAP}
        for place in places
    }
    jobs = {
        _folder(settings, place, arm, seed): map_job(settings, place, arm, seed)
        for place in places
        for arm in ARMS_OF_MAP
        for seed in settings.seeds
    }
    for folder, job in jobs.items():
        if folder.name == f"seed{settings.seeds[0]}":
            check_line(job.line)
    run_jobs(list(jobs.values()), at_once=settings.jobs, console=console, title="map: runs")
    return [_cell(place, folders[place]) for place in places]


def pretrain_job(settings: Settings, place: Place) -> Job:
    """Make the job that pre-trains the model of a place; its card is written last."""
    folder = _model_folder(settings, place)
    return Job(
        name=f"model of {place.title}",
        module="dsrl.worlds.pretrain",
        words=(place.world, *place.pretrained),
        places=(str(folder),),
        log=settings.out / "logs" / f"model-{place.folder}.log",
        done=(folder / "README.md").exists,
    )


def map_job(settings: Settings, place: Place, arm: str, seed: int) -> Job:
    """Make the job of a run. Raises ConfigError where the model of the place has not been made."""
    words = place.words if arm == "grpo" else (*place.words, *place.of_dsrl)
    places: tuple[str, ...] = ()
    if place.pretrained:
        folder = _model_folder(settings, place)
        model = str(folder)
        asked = training_words(model, load_world(folder), place.world)
        places = tuple(word for word in asked if model in word)
        words = (*(word for word in asked if word not in places), *words)
    rates = {arm: place.rate or settings.learning_rates[0]}
    made = next(one for one in ARMS if one.name == arm)
    return run_job(settings, place.world, made, _folder(settings, place, arm, seed), seed, rates, words, places)


def _model_folder(settings: Settings, place: Place) -> Path:
    return settings.out / "models" / place.folder


def _folder(settings: Settings, place: Place, arm: str, seed: int) -> Path:
    same = (one for one in PLACES if arm == "grpo" and one.of_both == place.of_both)  # dsrl alone is varied
    own = next(same, place)
    return settings.out / own.folder / arm / f"seed{seed}"


def _cell(place: Place, folders: Mapping[str, Sequence[Path]]) -> Cell:
    curves = answered_in_all({name: [read_curve(folder) for folder in own] for name, own in folders.items()})
    areas = {name: np.stack([curve.area for curve in own]) for name, own in curves.items()}
    scored = [[row[MARGINAL] for row in curve.metrics if row.get(MARGINAL) is not None] for curve in curves["dsrl"]]
    moved = [own[-1] - own[0] for own in scored if len(own) > 1]
    return Cell(
        place=place,
        base=float(np.mean([curve.accuracy[0].mean() for curve in curves["grpo"]])),
        areas={name: float(area.mean()) for name, area in areas.items()},
        ends={name: float(np.mean([curve.accuracy[-1].mean() for curve in own])) for name, own in curves.items()},
        difference=over_seeds_and_questions(areas["dsrl"] - areas["grpo"], within=CHANGE),
        moved=float(np.mean(moved)) if moved else float("nan"),
        seeds=len(curves["dsrl"]),
    )
