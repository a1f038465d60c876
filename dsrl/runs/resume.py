"""The checkpoint that a resumed run continues, and what may differ from the run that wrote it."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dsrl.config.renamed import in_todays_words
from dsrl.config.resumed import NEW, OF_THE_FOLDER, saved_config, stands_below
from dsrl.config.run_config import RunConfig
from dsrl.config.schema import PhaseConfig
from dsrl.config.store import LATER_PHASES
from dsrl.errors import ConfigError
from dsrl.runs.going_on import command_to_export, command_to_go_on
from dsrl.runs.handoff import phase_that_begins
from dsrl.storage.checkpoint_files import UnreadableCheckpoint, read_checkpoint

logger = logging.getLogger(__name__)

MAY_CHANGE = (
    "run_dir",
    "resume",
    "iterations",
    "validation",
    "checkpoint",
    "logged_samples",
    "logged_tokens",
    "record",
    "report",
    "logger",
    "callbacks",
    "trainer",
    "update.micro_batch_tokens",
    "update.on_nonfinite",
    "update.max_skipped",
    "update.share_prompts",
    "sampler.max_batch_total_tokens",
    "verifier.max_failed",
    "mismatch.every",
    "plan",
    "monitors",
    "thoughts",
    "model.chat_date",
    "model.thoughts",
    "probe",
)
"""Keys, and everything below them, that may differ from the run that is resumed."""
MAY_CHANGE_ELSEWHERE = (
    "optimizer",
    "update",
    "mismatch",
    "verifier",
    "prompts_per_iteration",
    "responses_per_prompt",
    "dynamic_sampling",
    "curriculum",
    "sampling",
    "sampler",
    "seed",
)
"""Keys that may differ, too, where a checkpoint is continued in another folder than that of its run. From
`prompts_per_iteration` on they change what is drawn."""
OF_A_PHASE = ("lr", "schedule", "warmup", "sampling")
"""Keys of a later phase that may differ there, once it has begun; of one that has not, all may."""
BUT_THE_START = tuple(field.name for field in fields(PhaseConfig) if field.name != "start")
"""Keys of the phase that begins with the next iteration that may differ: all, but for its start, which has come."""


class RunIsFinished(ConfigError):
    """Refuses to go on with a run that has done all of its iterations."""


def checkpoint_to_resume(config: RunConfig) -> Path | None:
    """Find the checkpoint to continue from; None for a run from the beginning.

    `resume=last` is the newest in the run folder. Where that has none yet, it is the one that the run there went on
    from, if any. `resume=PATH` is that file.
    """
    if config.resume is None:
        return None
    if config.resume != "last":
        return Path(config.resume).expanduser()
    if newest := newest_checkpoint(config.run_dir / "checkpoints"):
        return newest
    began = (saved_config("last", str(config.run_dir)) or {}).get("resume")
    return None if began in (None, "last") else Path(began).expanduser()


def goes_on_elsewhere(config: RunConfig, path: Path) -> bool:
    """Whether a checkpoint is continued in another folder than the one of its run."""
    return path.absolute().parent != (config.run_dir / "checkpoints").absolute()


def check_continues(config: RunConfig, path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Raise ConfigError where a checkpoint was made with another configuration, or has nothing left to run.

    Args:
        config: of the run that is to go on.
        path: the checkpoint, which messages name.
        checkpoint: what `read_to_resume` gave for it.
    """
    changed = changes(config, checkpoint)
    elsewhere = goes_on_elsewhere(config, path)
    refused = [*_beyond(changed, may_change(checkpoint, elsewhere=elsewhere))]
    if refused:
        told = [f"{key}: {before!r} in the checkpoint, {after!r} now" for key, before, after in refused]
        raise ConfigError(
            f"resume={config.resume}: the run was made with another configuration\n"
            + "\n".join(told)
            + _way_out(path, refused, checkpoint, elsewhere=elsewhere)
        )
    _check_unfinished(config, path, checkpoint)
    _check_starts(config, checkpoint, changed)
    if rates := changed_rate(config, checkpoint):
        logger.warning("resume=%s: %s", path, rates)


def changed_rate(config: RunConfig, checkpoint: Mapping[str, Any]) -> str | None:
    """Say that the learning rate goes on otherwise, where a schedule spans another number of iterations now; else None.

    Args:
        config: of the run that is to go on.
        checkpoint: what it goes on from.
    """
    state, before = checkpoint["callbacks"]["PhaseScheduler"], checkpoint["dsrl"]["config"]["iterations"]
    number, start = len(state["starts"]), state["starts"][-1]  # of the phase that the next iteration belongs to
    phase, done = config.phases[number - 1], checkpoint["dsrl"]["iterations_done"]
    following = config.phases[number].start if number < len(config.phases) else None
    if isinstance(following, int) and following <= done:
        return None  # a phase begins, with a schedule of its own
    rates = [phase.learning_rate(done - start, iterations - start) for iterations in (before, config.iterations)]
    if rates[0] == rates[1]:
        return None
    key = "optimizer.schedule" if number == 1 else f"phase{number}.schedule"
    return (
        f"{key}={phase.schedule} spans iterations={config.iterations} now, and {before} when the run began, so that "
        f"the learning rate goes on at {rates[1]:.3g}, where it would have been {rates[0]:.3g}; {key}=constant is the "
        "same for any number"
    )


def changes(config: RunConfig, checkpoint: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """List what differs from the configuration of a checkpoint, apart from what belongs to a folder: key, the value
    before, the value now.
    """
    return [
        (key, before, after)
        for key, before, after in differences(in_todays_words(checkpoint["dsrl"]["config"]), config.resolved)
        if not stands_below(key, (*NEW, *OF_THE_FOLDER))
    ]


def may_change(checkpoint: Mapping[str, Any], *, elsewhere: bool) -> tuple[str, ...]:
    """List the keys that may differ where a checkpoint is continued; `elsewhere`: in a folder of its own."""
    begins, entered = phase_that_begins(checkpoint), checkpoint["callbacks"]["PhaseScheduler"]["entered"]
    decided = len(checkpoint["callbacks"]["PhaseScheduler"]["starts"])
    at_handoff = [f"phase{begins}.{key}" for key in BUT_THE_START] if begins else []
    found = [*MAY_CHANGE, *at_handoff, *(LATER_PHASES[decided - 1 :] if begins else ())]
    if elsewhere:
        begun, later = LATER_PHASES[: entered - 1], LATER_PHASES[decided - 1 :]
        found += [*MAY_CHANGE_ELSEWHERE, *(f"{phase}.{key}" for phase in begun for key in OF_A_PHASE), *later]
    return tuple(dict.fromkeys(found))


def _beyond(changed: list[tuple[str, Any, Any]], free: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    yield from (change for change in changed if not stands_below(change[0], free))


def _way_out(path: Path, refused: list[Any], checkpoint: Mapping[str, Any], *, elsewhere: bool) -> str:
    """Say what to do about changes that are refused."""
    if not elsewhere and not [*_beyond(refused, may_change(checkpoint, elsewhere=True))]:
        return f"\nto go on with these, give resume={path} and a new run_dir"
    free = ", ".join(may_change(checkpoint, elsewhere=elsewhere))
    return f"\nonly these may change here, and what is below them: {free}; leave the rest out, the run has it"


def check_unfinished(config: RunConfig) -> None:
    """Raise RunIsFinished where `resume` names a run that has nothing left to do."""
    if (path := checkpoint_to_resume(config)) is not None:
        _check_unfinished(config, path, read_to_resume(path, config.run_dir))


def _check_unfinished(config: RunConfig, path: Path, checkpoint: Mapping[str, Any]) -> None:
    if checkpoint["dsrl"]["iterations_done"] >= config.iterations:
        said = f"resume={path}: the run is finished, all of iterations={config.iterations} are done; raise it to go on"
        if config.resume == "last" and not (config.run_dir / "hf").exists():
            said += f"; its hf/ is missing, and `{command_to_export(path, config.run_dir)}` writes it"
        raise RunIsFinished(said)


def _check_starts(config: RunConfig, checkpoint: Mapping[str, Any], changed: list[tuple[str, Any, Any]]) -> None:
    """Raise ConfigError where a phase whose start is new would have begun with an iteration that is done."""
    done = checkpoint["dsrl"]["iterations_done"]
    for phase in config.phases[1:]:
        key = f"phase{phase.number}"
        is_new = any(other in (key, f"{key}.start") for other, _, _ in changed)
        if is_new and isinstance(phase.start, int) and phase.start < done:
            raise ConfigError(
                f"{key}.start={phase.start}: iterations 0 to {done - 1} are done, without this phase; it can "
                f"begin with iteration {done} at the earliest, or resume an earlier checkpoint"
            )


def newest_checkpoint(folder: Path) -> Path | None:
    """Find the checkpoint in which most iterations are done; None without any."""
    found = [(iterations_done_at(path), path) for path in folder.glob("*.ckpt")]
    return max(found)[1] if found else None


def iterations_done_at(path: Path) -> int:
    """Read from a checkpoint's name how many iterations are done.

    `iteration19.ckpt` was written after iteration 19, `handoff-...-iteration20.ckpt` before 20.
    """
    number = re.search(r"iteration(\d+)\.ckpt$", path.name)
    return int(number[1]) + (not path.name.startswith("handoff")) if number else 0


def read_to_resume(path: Path, run_dir: Path | None = None) -> dict[str, Any]:
    """Read a checkpoint. Raises ConfigError where it cannot be read, which names the newest beside it that can.

    Args:
        path: the checkpoint.
        run_dir: the folder in which the run goes on.
    """
    try:
        return read_checkpoint(path, verify=True)
    except UnreadableCheckpoint as error:
        beside = sorted(path.parent.glob("*.ckpt"), key=lambda other: (iterations_done_at(other), other), reverse=True)
        good = next((other for other in beside if other != path and _is_readable(other)), None)
        in_place = run_dir is not None and path.absolute().parent == (run_dir / "checkpoints").absolute()
        raise ConfigError(f"resume={error}; {_offer(good, beside, run_dir if in_place else None)}") from error


def _offer(good: Path | None, beside: list[Path], run_dir: Path | None) -> str:
    """Say how to go on from an older checkpoint; in its own folder, `run_dir`, from the newest that is there."""
    if good is None:
        return "nor is any beside it"
    found = f"the newest beside it that can be read is {good}"
    if run_dir is None:
        return f"{found}: resume={good}"
    newer = beside[: beside.index(good)]
    aside = " && ".join(shlex.join(["mv", str(path), f"{path}.damaged"]) for path in newer)
    return f"{found}; to go on from that: {aside} && {command_to_go_on(run_dir)}"


def _is_readable(path: Path) -> bool:
    try:
        read_checkpoint(path, verify=True)
    except UnreadableCheckpoint:
        return False
    return True


def differences(before: Any, after: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Find where two configurations differ: key, the value before, the value after."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*before, *after]):
            yield from differences(before.get(key), after.get(key), f"{prefix}.{key}" if prefix else str(key))
    elif before != after:
        yield prefix, before, after
