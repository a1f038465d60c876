"""`python train.py` and `dsrl-train`: load plugins, compose, check, run."""

from __future__ import annotations

import gc
import os
import sys
from argparse import Namespace
from contextlib import suppress

from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, read_write

from dsrl.config.command_line import search_path
from dsrl.config.compose import check_command_line
from dsrl.config.run_config import RunConfig
from dsrl.config.store import config_dir
from dsrl.errors import ConfigError, DSRLError, print_error


def main() -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2, Ctrl-C with 130."""
    parser = get_args_parser()
    parser.usage = "%(prog)s [KEY=VALUE ...] [--multirun | --cfg job [--resolve] | --help]"
    arguments = parser.parse_intermixed_args()
    try:
        arguments.overrides = _checked(arguments)
    except DSRLError as error:
        sys.exit(print_error(error))
    setbase("1.3")
    try:
        _run_hydra(
            args=arguments, args_parser=parser, task_function=_job, config_path=str(config_dir()), config_name="train"
        )
    except KeyboardInterrupt:
        sys.exit(130)


def _checked(arguments: Namespace) -> list[str]:
    """The overrides as Hydra is to have them. Raises ConfigError with every problem found."""
    for name in ("config_name", "config_path", "experimental_rerun"):
        if given := getattr(arguments, name):
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag}={given}: write an experiment instead: --config-dir FOLDER experiment=NAME")
    modes = ("help", "hydra_help", "cfg", "info", "shell_completion", "multirun")
    given = [f"--{mode.replace('_', '-')}" for mode in modes if getattr(arguments, mode)]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)}: choose one")
    if arguments.resolve and given not in (["--cfg"], ["--help"]):
        raise ConfigError("--resolve goes with --cfg or --help")
    if given == ["--shell-completion"]:
        return list(arguments.overrides)
    more = [search_path(arguments.config_dir)] if arguments.config_dir else []
    arguments.config_dir = None
    runs = given in ([], ["--multirun"])
    return check_command_line([*arguments.overrides, *more], multirun=arguments.multirun, runs=runs)


def _job(composed: DictConfig) -> None:
    """One job: the whole run, or one of a sweep."""
    composed.run_dir = _run_dir()
    gc.disable()  # what these imports make stays: to look for garbage in it, now and while training, would cost seconds
    from dsrl.runs.fit import fit  # heavy imports only for what runs

    gc.freeze()
    gc.enable()
    try:
        fit(RunConfig.of(composed))
    except DSRLError as error:  # here, since Hydra would add a traceback
        sys.exit(print_error(error))
    except SystemExit as end:  # Lightning's, which takes Ctrl-C for a failure
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        raise
    finally:
        gc.unfreeze()


def _run_dir() -> str:
    """This job's run folder; the command line becomes this job's alone, since other processes are started by it."""
    job = HydraConfig.get()
    folder = job.runtime.output_dir
    with read_write(job):  # type: ignore[arg-type]
        job.run.dir = folder
    if job.mode == RunMode.MULTIRUN:
        paths = [text for text in job.overrides.hydra if text.startswith("hydra.searchpath")]
        sys.argv[1:] = [*job.overrides.task, *paths]
    if any(os.environ.get(name, "0") != "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")):
        with suppress(OSError):  # a rank that composed by itself; the run's folder is rank 0's
            os.rmdir(folder)
    return str(folder)
