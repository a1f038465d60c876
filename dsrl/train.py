"""`python train.py`, `python -m dsrl.train` and `dsrl-train`: load plugins, compose, check, run."""

from __future__ import annotations

import gc
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from dsrl.command import command
from dsrl.config.build import build_run_config
from dsrl.config.command_line import search_path, text_of
from dsrl.config.compose import check_command_line, compose, job_lines
from dsrl.config.help import help_text
from dsrl.config.run_config import RunConfig
from dsrl.config.store import config_dir
from dsrl.errors import ConfigError, DSRLError, nearest, print_error
from dsrl.parallel.first_process import is_first_process
from dsrl.registry.blame import blamed
from dsrl.runs.start import check_run_dir
from dsrl.runs.sweep import Sweep, run_apart, stop_sweep
from dsrl.runs.sweep_index import SweepIndex
from dsrl.runs.terminal import terminal
from dsrl.storage.folder_lock import FolderLock

SWITCHES = {"--help": "-h", "--multirun": "-m", "--resolve": None, "--hydra-help": None, "--shell-completion": "-sc"}
WITH_VALUE = {"--cfg": "-c", "--package": "-p", "--config-dir": "-cd"}
REFUSED = {"--config-name": "-cn", "--config-path": "-cp"}
SHOWN = ("job", "prompt", "hydra", "all")
MODES = ("help", "hydra_help", "cfg", "info", "shell_completion", "multirun")


@command
def main() -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2, Ctrl-C with 130.

    A sweep goes on after a job that fails, and ends with code 1 and a list of those that have.
    """
    given = _arguments()
    try:
        overrides, starts = _checked(given)
        if given.help:
            print(help_text(overrides))
            sys.exit(0)
        if given.cfg == "prompt":
            _show_prompts(overrides)
            sys.exit(0)
        sys.argv[1:] = [*_for_hydra(given), *overrides]
        if given.multirun:
            _sweep(overrides, starts[0])
        else:
            _hydra(_job)
    except DSRLError as error:
        sys.exit(print_error(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _hydra(job: Callable[[DictConfig], None]) -> None:
    """Let Hydra compose the one job, or each of a sweep, and run it."""
    hydra.main(config_path=str(config_dir()), config_name="train", version_base="1.3")(job)()


def _sweep(overrides: list[str], first: RunConfig) -> None:
    """Run the jobs of a sweep, whose folder nobody else may write to meanwhile; one with a time in its name is new."""
    writes = is_first_process(first.trainer.devices * first.trainer.num_nodes)
    sweep = Sweep(lines=job_lines(overrides) if writes else ())
    locks = writes and any(text.startswith("run_dir=") for text in overrides)

    def job(composed: DictConfig) -> None:
        its, folder = HydraConfig.get(), _run_dir()
        composed.run_dir = folder
        received = None
        with sweep.job(its.job.num, list(its.overrides.task), Path(folder)):
            received = _job_of_sweep(composed)
        if received:
            stop_sweep(received)

    with FolderLock(first.run_dir.parent) if locks else nullcontext():
        try:
            _hydra(job)
        finally:
            if sweep.index is not None:
                _show_sweep(sweep.index)
    if failures := sweep.failures():
        print_error(DSRLError(failures))
        sys.exit(1)


def _show_sweep(index: SweepIndex) -> None:
    console = terminal()
    console.print(index.table())
    files = f"{index.folder}/index.json, index.csv; python -m dsrl.report {index.folder} compares the runs"
    console.print(files, markup=False, soft_wrap=True)


def _arguments() -> Namespace:
    """Read the options of Hydra, and the words beside them."""
    parser = ArgumentParser(
        add_help=False,
        allow_abbrev=False,
        usage="%(prog)s [KEY=VALUE ...] [--multirun | --cfg job [--resolve] | --cfg prompt | --help]",
    )
    parser.add_argument("overrides", nargs="*")
    for name, short in SWITCHES.items():
        parser.add_argument(*filter(None, (name, short)), action="store_true")
    for name, short in (WITH_VALUE | REFUSED).items():
        parser.add_argument(name, short)
    parser.add_argument("--info", "-i", nargs="?", const="all")
    return parser.parse_intermixed_args()


def _checked(given: Namespace) -> tuple[list[str], list[RunConfig]]:
    """Check the line. Returns its overrides as Hydra is to have them, and the configurations of the jobs that will run.

    Raises ConfigError with every problem found.
    """
    for name in REFUSED:
        if value := getattr(given, _field(name)):
            raise ConfigError(f"{name}={value}: write an experiment instead: --config-dir FOLDER experiment=NAME")
    if given.cfg not in (None, *SHOWN):
        raise ConfigError(f"--cfg={given.cfg}: allowed are {', '.join(SHOWN)}.{nearest(given.cfg, SHOWN)}")
    modes = [f"--{mode.replace('_', '-')}" for mode in MODES if getattr(given, mode)]
    if len(modes) > 1:
        raise ConfigError(f"{' and '.join(modes)}: choose one")
    if given.resolve and modes not in (["--cfg"], ["--help"]):
        raise ConfigError("--resolve goes with --cfg or --help")
    if modes == ["--shell-completion"]:
        return list(given.overrides), []
    more = [search_path(given.config_dir)] if given.config_dir else []
    starts: list[RunConfig] = []

    def check(composed: DictConfig) -> None:
        if modes in ([], ["--multirun"]):
            starts.append(build_run_config(composed))
            check_run_dir(starts[-1])

    return check_command_line([*given.overrides, *more], multirun=given.multirun, check=check), starts


def _show_prompts(overrides: list[str]) -> None:
    config = compose(overrides)
    from dsrl.runs.first_prompts import first_prompts  # heavy imports only for what runs

    print(first_prompts(config))


def _for_hydra(given: Namespace) -> list[str]:
    """The options that Hydra reads by itself."""
    switches = [name for name in SWITCHES if getattr(given, _field(name))]
    values = [f"{name}={value}" for name in ("--cfg", "--info", "--package") if (value := getattr(given, _field(name)))]
    return [*switches, *values]


def _field(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _job(composed: DictConfig) -> None:
    """Run the one job of a command line."""
    composed.run_dir = _run_dir()
    try:
        _train(composed)
    except DSRLError as error:  # here, since Hydra would add a traceback
        sys.exit(print_error(error))


def _job_of_sweep(composed: DictConfig) -> signal.Signals | None:
    """Run a job of a sweep; returns the signal that it was told to stop by. One that is finished is left alone.

    A job of several ranks has a process of its own, unless another launcher has started this one.
    """
    from dsrl.runs.resume import RunIsFinished, check_unfinished

    ranks = composed.trainer.devices * composed.trainer.num_nodes
    try:
        if ranks == 1 or any(name in os.environ for name in ("RANK", "SLURM_PROCID")):
            return _train(composed)
        check_unfinished(build_run_config(composed))
        words = [text for text in sys.argv[1:] if not text.startswith("run_dir=")]
        return run_apart([*words, f"run_dir={text_of(composed.run_dir)}"])
    except RunIsFinished as error:
        print(error)
        return None


def _train(composed: DictConfig) -> signal.Signals | None:
    """Train; returns the signal that the run was told to stop by, if any."""
    gc.disable()  # what these imports make stays: to look for garbage in it, now and while training, would cost seconds
    from dsrl.runs.fit import fit  # heavy imports only for what runs

    gc.freeze()
    gc.enable()
    try:
        return fit(build_run_config(composed)).stopped_by
    except Exception as error:
        told = blamed(error)
        if told is None or told is error or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise told from error
    except SystemExit as end:  # Lightning's, which takes Ctrl-C for a failure
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        raise
    finally:
        gc.unfreeze()


def _run_dir() -> str:
    """Find this job's run folder; sys.argv becomes this job's alone, since other processes are started by it."""
    job = HydraConfig.get()
    folder = job.runtime.output_dir
    with read_write(job):  # type: ignore[arg-type]
        job.run.dir = folder
    if job.mode == RunMode.MULTIRUN:
        paths = [text for text in job.overrides.hydra if text.startswith("hydra.searchpath")]
        sys.argv[1:] = [*job.overrides.task, *paths]
    if not is_first_process(ranks=2):
        with suppress(OSError):  # a rank that composed by itself; the run's folder is rank 0's
            os.rmdir(folder)
    return str(folder)


if __name__ == "__main__":
    main()
