"""Objects of Lightning that a configuration names: loggers, callbacks, the profiler."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler

from dsrl.config.run_config import RunConfig
from dsrl.config.schema import TrainerConfig
from dsrl.errors import ConfigError
from dsrl.runs.logger_ids import known_id
from dsrl.runs.resume import checkpoint_to_resume, iterations_done_at

PROFILER_CLASSES = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


def loggers_of(config: RunConfig) -> list[Logger]:
    """Make the loggers of a run. Raises ConfigError with the cause where one cannot be made.

    Where the run goes on in its folder, those of services go on with the run that they began, and TensorBoard hides
    what is of iterations that run again.
    """
    specs = {name: dict(spec) for name, spec in config.logger.items()}
    newest = checkpoint_to_resume(config) if config.resume == "last" else None
    for name, spec in specs.items() if config.resume == "last" else ():
        with suppress(Exception):  # what is wrong with the target is told where the logger is made
            spec |= known_id(config.run_dir, name, spec)
    found: list[Logger] = _instantiated("logger", specs, Logger)
    for logger in found:
        if isinstance(logger, TensorBoardLogger) and newest is not None:
            # The validation after the last iteration that is kept has the next one's number.
            logger._kwargs.setdefault("purge_step", iterations_done_at(newest) + 1)
    return found


def callbacks_of(config: RunConfig) -> list[L.Callback]:
    """Make the callbacks of a run beside the loop's own. Raises ConfigError with the cause where one cannot be made."""
    return _instantiated("callbacks", config.callbacks, L.Callback)


def own_arguments(trainer: TrainerConfig, folder: Path) -> dict[str, Any]:
    """Return the arguments that the loop hands on to Lightning's Trainer; a profiler writes to `folder`."""
    profiler = PROFILER_CLASSES.get(trainer.profiler or "")
    return {
        "max_time": trainer.max_time,
        "deterministic": trainer.deterministic or None,  # None: as PyTorch is set
        "benchmark": trainer.benchmark,
        "detect_anomaly": trainer.detect_anomaly,
        "profiler": profiler(dirpath=folder, filename="profile") if profiler else None,
    }


def _instantiated(group: str, specs: Mapping[str, Any], kind: Any) -> list[Any]:
    made = []
    for name, spec in specs.items():
        target = spec["_target_"]
        try:
            found = instantiate(spec)
        except InstantiationException as error:
            cause = error.__cause__ or error
            reason = f"{type(cause).__name__}: {str(cause).strip().splitlines()[0]}"
            raise ConfigError(f"{group}.{name}._target_={target} cannot be made: {reason}") from error
        if not isinstance(found, kind):
            raise ConfigError(f"{group}.{name}._target_={target}: must be a {kind.__name__} of Lightning")
        made.append(found)
    return made
