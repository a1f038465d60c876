"""Where a run starts: what its folder holds already, and the checkpoint and the phases of a resumed one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dsrl.config.renamed import in_todays_words
from dsrl.config.run_config import RunConfig
from dsrl.errors import ConfigError
from dsrl.parallel.first_process import is_first_process
from dsrl.storage.disk_errors import refuse_unwritable


class Start(NamedTuple):
    """What a run begins with: its configuration, and the checkpoint that it goes on from."""

    config: RunConfig
    checkpoint: Path | None


def start_of(config: RunConfig) -> Start:
    """Find where a run starts, before anything of it is loaded or written.

    `resume=HANDOFF objective=NAME` gives another objective to the phase that begins there, and a number takes the place
    of `update.micro_batch_tokens=auto`, so that the configuration to run is not always the one that was composed.
    Raises ConfigError where the run folder holds a run already, where the checkpoint cannot be continued, where the
    sampler cannot sample from the model, where adapters cannot be put where they are asked for, or where the run cannot
    fit its device.
    """
    from dsrl.planning.admission import refuse_what_cannot_fit, with_micro_batch_tokens  # these load torch
    from dsrl.planning.architecture import architecture_of, shaped_model
    from dsrl.runs.handoff import with_its_phases
    from dsrl.runs.resume import check_continues, checkpoint_to_resume, goes_on_elsewhere, read_to_resume

    check_run_dir(config)
    path = checkpoint_to_resume(config)
    saved: dict[str, Any] | None = None
    if path is not None:
        checkpoint = read_to_resume(path, config.run_dir)
        config = with_its_phases(config, checkpoint)
        check_continues(config, path, checkpoint)
        if goes_on_elsewhere(config, path):  # config.yaml says so until the run has a checkpoint of its own
            origin = str(path.absolute())
            config = replace(config, resume=origin, resolved={**config.resolved, "resume": origin})
        saved = in_todays_words(checkpoint["dsrl"]["config"])
    config = with_micro_batch_tokens(config, saved)
    architecture = architecture_of(config.model)
    config.sampler.check_architecture(architecture)
    if config.model.lora.rank:
        shaped_model(architecture, config.model)  # which raises for targets that cannot have adapters
    refuse_what_cannot_fit(config)
    return Start(config, path)


def check_run_dir(config: RunConfig) -> None:
    """Raise ConfigError where the run folder holds a run that this one does not go on with, UnwritableError where it
    cannot be written.

    A run has finished an iteration: what a start has left that was interrupted before that is written over.
    """
    resume, run_dir = config.resume, config.run_dir
    has_checkpoint = any(run_dir.glob("checkpoints/*.ckpt"))
    if resume == "last" or not (has_checkpoint or os.path.exists(run_dir / "hf") or _has_an_iteration(run_dir)):
        if is_first_process(config.trainer.devices * config.trainer.num_nodes):
            refuse_unwritable(run_dir)
        return
    since = "" if has_checkpoint else ", from the beginning, since it has no checkpoint"
    hint = (
        f"choose another, or go on with it by resume=last{since}"
        if resume is None
        else f"resume={resume} needs a new one (resume=last goes on in this)"
    )
    raise ConfigError(f"run_dir={run_dir}: holds a run already; {hint}")


def _has_an_iteration(run_dir: Path) -> bool:
    """Whether a line of metrics.jsonl is that of an iteration, and not of a validation before any."""
    try:
        with (run_dir / "metrics.jsonl").open(encoding="utf-8") as lines:
            return any('"reward/mean"' in line for line in lines)
    except OSError:  # none, or not to be read: the run says what it cannot write
        return False
