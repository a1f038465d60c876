"""The order of things in a world: tune every arm, run the chosen ones, compare gradients, and find what follows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from dsrl.config.compose import compose
from dsrl.config.run_config import RunConfig
from dsrl.errors import ConfigError
from dsrl.replication.arms import ARMS, BONUS, Arm
from dsrl.replication.claims import MOMENTS, Finding, alignment, nsr_beats_psr, sample_efficiency, thoughts
from dsrl.replication.jobs import Job, run_jobs
from dsrl.replication.measured import Curve, answered_in_all, read_curve
from dsrl.replication.settings import Settings
from dsrl.runs.lines import read_lines
from dsrl.runs.resume import newest_checkpoint

ENTROPY = "response/entropy"
"""The metric in which grpo_entropy is to equal dsrl: of all sampled responses, whatever an objective scores."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What was found in a world.

    Args:
        world: its name.
        chosen: the learning rate of each arm, and under `bonus` the coefficient of the bonus for entropy.
        tried: what each was chosen by, the mean over the tuning seeds, by arm and value.
        curves: of the measured runs, by arm, in the order of the seeds.
        findings: of the four claims; without the one about thoughts where none are counted.
    """

    world: str
    chosen: Mapping[str, float]
    tried: Mapping[str, Mapping[str, float]]
    curves: Mapping[str, Sequence[Curve]]
    findings: Sequence[Finding]


def study(settings: Settings, world: str, console: Console) -> Study:
    """Do all of it, as far as it is not done: a second call goes on.

    Raises ConfigError, before anything runs, where an arm's command line is wrong; DSRLError where a run has failed.
    """
    check_arms(settings, world)
    chosen, tried = tune(settings, world, console)
    runs = {
        (arm.name, seed): run_job(settings, world, arm, settings.out / world / arm.name / f"seed{seed}", seed, chosen)
        for arm in ARMS
        for seed in settings.seeds
    }
    run_jobs(list(runs.values()), at_once=settings.jobs, console=console, title=f"{world}: runs")
    folder = settings.out / world
    curves = answered_in_all(
        {arm.name: [read_curve(folder / arm.name / f"seed{seed}") for seed in settings.seeds] for arm in ARMS}
    )
    findings = [
        alignment(align(settings, world, console)),
        nsr_beats_psr(curves, settings.short_iterations),
        sample_efficiency(curves),
    ]
    if kinds := list(curves["dsrl"][0].thoughts):
        findings.append(thoughts(curves, kinds[0]))
    return Study(world=world, chosen=chosen, tried=tried, curves=curves, findings=findings)


def check_arms(settings: Settings, world: str) -> None:
    """Compose the command line of every arm. Raises ConfigError for one that is wrong, and for a handoff at which
    nothing would be measured.
    """
    rates = {arm.name: settings.learning_rates[0] for arm in ARMS}
    for arm in ARMS:
        job = run_job(settings, world, arm, settings.out / world / "checked", 0, {**rates, "bonus": 1.0})
        config = check_line(job.line)
        starts = [phase.start for phase in config.phases[1:] if isinstance(phase.start, int)]
        if off := [start for start in starts if start % settings.validate_every]:
            raise ConfigError(
                f"phase2.start={off[0]}: must be a multiple of validate_every={settings.validate_every}, so that the "
                "handoff is measured"
            )


def check_line(line: Sequence[str]) -> RunConfig:
    """Compose the command line of a run. Raises ConfigError where it is wrong, where it has no held-out questions, and
    where its iterations do not all sample as many responses.
    """
    config = compose(line)
    if config.data.val_names() == []:
        raise ConfigError("data.val: held-out questions are needed, by which runs are compared")
    if config.dynamic_sampling:
        raise ConfigError(
            f"dynamic_sampling={config.dynamic_sampling}: runs are compared at equal samples, and it samples more "
            "where more groups give no signal"
        )
    return config


def tune(settings: Settings, world: str, console: Console) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Choose the learning rate of every arm from the same values, then the bonus for entropy from as many of its own.

    The bonus is the one under which grpo's entropy is nearest to that of dsrl, on the tuning seeds, over the iterations
    after dsrl's handoff.
    """
    by_rate, bonus = [arm for arm in ARMS if arm.name != BONUS], next(arm for arm in ARMS if arm.name == BONUS)
    trials = [(arm, rate) for arm in by_rate for rate in settings.learning_rates]
    found = _try(settings, world, trials, {}, console) if settings.tuning_seeds else {}
    tried: dict[str, dict[str, float]] = {}
    chosen: dict[str, float] = {}
    for arm in by_rate:
        scores = {rate: _mean(_score(arm, curve) for curve in found.get((arm.name, rate), [])) for _, rate in trials}
        tried[arm.name] = {f"{rate:g}": score for rate, score in scores.items()} if found else {}
        chosen[arm.name] = max(scores, key=lambda rate: scores[rate])
    chosen[BONUS], chosen["bonus"] = chosen["grpo"], settings.bonuses[0]
    if found:
        dsrl = found["dsrl", chosen["dsrl"]]
        starts = [curve.phases[0] for curve in dsrl]  # by seed
        others = _try(settings, world, [(bonus, value) for value in settings.bonuses], chosen, console)

        def entropy(curves: Sequence[Curve]) -> float:
            return _mean(curve.mean_metric(ENTROPY, first) for curve, first in zip(curves, starts, strict=True))

        target, entropies = entropy(dsrl), {value: entropy(others[BONUS, value]) for value in settings.bonuses}
        tried[BONUS] = {f"{value:g}": entropy for value, entropy in entropies.items()} | {"dsrl": target}
        chosen["bonus"] = min(settings.bonuses, key=lambda value: abs(entropies[value] - target))
    return chosen, tried


def align(settings: Settings, world: str, console: Console) -> dict[str, list[dict[str, Any]]]:
    """Compare gradients at the base, at the handoff and at the end of each run of dsrl; results by moment."""
    folder, jobs, files = settings.out / world, [], {}
    for seed in settings.seeds:
        run = folder / "dsrl" / f"seed{seed}"
        checkpoints = run / "checkpoints"
        handoff = next(iter(sorted(checkpoints.glob("handoff-*"))), None)
        asked = settings.of_world(world)
        # checkpoints, not the folder, whose final model has its adapters merged into all weights
        models = {
            "base": (_words_about(asked, "model", "data", "sampler", "verifier", "sampling"), ()),
            "handoff": (_words_about(asked, "sampling"), (f"model={handoff}",)),
            "end": (_words_about(asked, "sampling"), (f"model={newest_checkpoint(checkpoints)}",)),
        }
        for moment, (words, places) in models.items():
            file = folder / "alignment" / f"{moment}-seed{seed}.json"
            files[moment, seed] = file
            name = f"{world}: alignment, {moment}, seed {seed}"
            jobs.append(_align_job(settings, name, words, places, seed, file))
    run_jobs(jobs, at_once=settings.jobs, console=console, title=f"{world}: alignment")
    return {
        moment: [json.loads(files[moment, seed].read_text(encoding="utf-8")) for seed in settings.seeds]
        for moment in MOMENTS
    }


def run_job(
    settings: Settings,
    world: str,
    arm: Arm,
    folder: Path,
    seed: int,
    chosen: Mapping[str, float],
    words: tuple[str, ...] = (),
    places: tuple[str, ...] = (),
) -> Job:
    """Make the job of a run: an ordinary run folder, whose command line is in its starts.jsonl.

    Args:
        settings: sizes.
        world: where it is.
        arm: what is trained.
        folder: the run folder.
        seed: of the run.
        chosen: learning rates by arm, and `bonus`.
        words: further ones, in the place of those of the settings with the same key.
        places: further ones that name something in the folder of all runs.
    """
    iterations = settings.short_iterations if arm.short else settings.iterations
    given = {word.partition("=")[0] for word in (*words, *places)}
    asked = (
        *(word for word in settings.of_world(world) if word.partition("=")[0] not in given),
        *(word.replace("@BONUS@", f"{chosen.get('bonus', 0):g}") for word in arm.words),
        *words,
        f"optimizer.lr={chosen[arm.name]:g}",
        f"seed={seed}",
        f"iterations={iterations}",
        f"validation.every={settings.validate_every}",
        f"validation.k={settings.k}",
        *("checkpoint.every=10", "checkpoint.keep=1", "logger=none", "report=false", "logged_samples=4"),
    )
    return Job(
        name=str(folder.relative_to(settings.out)),
        module="dsrl.train",
        words=asked,
        places=(*places, f"run_dir={folder}"),
        log=settings.out / "logs" / f"{'-'.join(folder.relative_to(settings.out).parts)}.log",
        done=lambda: _done(folder, iterations),
        going_on=lambda: ("resume=last",) if (folder / "config.yaml").exists() else (),
        cost=iterations,
    )


def _done(folder: Path, iterations: int) -> bool:
    """Whether a run has all of its iterations, its validations, and its final policy."""
    lines = read_lines(folder / "metrics.jsonl")
    return (folder / "hf" / "config.json").exists() and any(line.get("iterations_done") == iterations for line in lines)


def _words_about(words: Sequence[str], *sections: str) -> tuple[str, ...]:
    """The words of some sections of the configuration, but for held-out questions."""
    return tuple(word for word in words if word.startswith(sections) and not word.startswith("data.val"))


def _align_job(
    settings: Settings, name: str, words: tuple[str, ...], places: tuple[str, ...], seed: int, file: Path
) -> Job:
    own = (
        "levels=[1,2]",
        f"limit={max(2, settings.align_samples // settings.k)}",
        f"k={settings.k}",
        f"samples={settings.align_samples}",
        f"seed={seed}",
        "json=true",
    )
    return Job(
        name=name,
        module="dsrl.align",
        words=(*words, *own),
        places=(*places, f"out={file}"),
        log=settings.out / "logs" / f"{'-'.join(file.relative_to(settings.out).parts)}.log",
        done=file.exists,
    )


def _try(
    settings: Settings,
    world: str,
    trials: Sequence[tuple[Arm, float]],
    chosen: Mapping[str, float],
    console: Console,
) -> dict[tuple[str, float], list[Curve]]:
    """Run trials on the tuning seeds: a value is the bonus of its arm, or else its learning rate."""
    folders, jobs = {}, []
    for arm, value in trials:
        given = {**chosen, "bonus": value} if arm.name == BONUS else {arm.name: value}
        for seed in settings.tuning_seeds:
            folder = settings.out / world / "tuning" / arm.name / f"{value:g}-seed{seed}"
            folders[arm.name, value, seed] = folder
            jobs.append(run_job(settings, world, arm, folder, seed, given))
    what = "bonus" if chosen else "learning rates"
    run_jobs(jobs, at_once=settings.jobs, console=console, title=f"{world}: {what}")
    return answered_in_all(
        {
            (arm.name, value): [read_curve(folders[arm.name, value, seed]) for seed in settings.tuning_seeds]
            for arm, value in trials
        }
    )


def _score(arm: Arm, curve: Curve) -> float:
    return float((curve.area if arm.by_area else curve.accuracy[-1]).mean())


def _mean(values: Any) -> float:
    found = list(values)
    return statistics.fmean(found) if found else 0.0
