"""`python train.py`, `python -m dsrl.train` and `dsrl-train`: load plugins, compose, check, run."""

from __future__ import annotations

import gc
import os
import sys
from argparse import ArgumentParser, Namespace
from contextlib import suppress

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from dsrl.config.build import build_run_config
from dsrl.config.command_line import search_path
from dsrl.config.compose import check_command_line, compose
from dsrl.config.help import help_text
from dsrl.config.store import config_dir
from dsrl.errors import ConfigError, DSRLError, nearest, print_error
from dsrl.registry.blame import blamed
from dsrl.runs.start import check_run_dir

SWITCHES = {"--help": "-h", "--multirun": "-m", "--resolve": None, "--hydra-help": None, "--shell-completion": "-sc"}
WITH_VALUE = {"--cfg": "-c", "--package": "-p", "--config-dir": "-cd"}
REFUSED = {"--config-name": "-cn", "--config-path": "-cp"}
SHOWN = ("job", "prompt", "hydra", "all")
MODES = ("help", "hydra_help", "cfg", "info", "shell_completion", "multirun")


def main() -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2, Ctrl-C with 130."""
    given = _arguments()
    try:
        overrides = _checked(given)
        if given.help:
            print(help_text(overrides))
            sys.exit(0)
        if given.cfg == "prompt":
            _show_prompts(overrides)
            sys.exit(0)
    except DSRLError as error:
        sys.exit(print_error(error))
    sys.argv[1:] = [*_for_hydra(given), *overrides]
    try:
        hydra.main(config_path=str(config_dir()), config_name="train", version_base="1.3")(_job)()
    except KeyboardInterrupt:
        sys.exit(130)


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


def _checked(given: Namespace) -> list[str]:
    """Check the line and return its overrides as Hydra is to have them. Raises ConfigError with every problem found."""
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
        return list(given.overrides)
    more = [search_path(given.config_dir)] if given.config_dir else []
    runs = modes in ([], ["--multirun"])
    return check_command_line(
        [*given.overrides, *more], multirun=given.multirun, check=_check_start if runs else lambda composed: None
    )


def _show_prompts(overrides: list[str]) -> None:
    config = compose(overrides)
    from dsrl.runs.first_prompts import first_prompts  # heavy imports only for what runs

    print(first_prompts(config))


def _check_start(composed: DictConfig) -> None:
    check_run_dir(build_run_config(composed))


def _for_hydra(given: Namespace) -> list[str]:
    """The options that Hydra reads by itself."""
    switches = [name for name in SWITCHES if getattr(given, _field(name))]
    values = [f"{name}={value}" for name in ("--cfg", "--info", "--package") if (value := getattr(given, _field(name)))]
    return [*switches, *values]


def _field(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _job(composed: DictConfig) -> None:
    """Run one job: the whole run, or one of a sweep."""
    composed.run_dir = _run_dir()
    gc.disable()  # what these imports make stays: to look for garbage in it, now and while training, would cost seconds
    from dsrl.runs.fit import fit  # heavy imports only for what runs

    gc.freeze()
    gc.enable()
    try:
        fit(build_run_config(composed))
    except Exception as error:  # here, since Hydra would add a traceback
        told = blamed(error)
        if told is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.exit(print_error(told))
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
    if any(os.environ.get(name, "0") != "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")):
        with suppress(OSError):  # a rank that composed by itself; the run's folder is rank 0's
            os.rmdir(folder)
    return str(folder)


if __name__ == "__main__":
    main()
