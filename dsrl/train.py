"""`python train.py` and `dsrl-train`: load plugins, compose, check, run."""

from __future__ import annotations

import sys

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dsrl.config.compose import check_command_line, explicit
from dsrl.config.run_config import RunConfig
from dsrl.config.store import config_dir
from dsrl.errors import DSRLError


def main() -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2."""
    arguments = get_args_parser().parse_args()
    try:
        check_command_line(arguments.overrides)
        given = set(arguments.overrides)
        sys.argv[1:] = [text for text in sys.argv[1:] if text not in given] + explicit(arguments.overrides)
        hydra.main(config_path=str(config_dir()), config_name="train", version_base="1.3")(_job)()
    except DSRLError as error:
        sys.exit(_complaint(error))


def _job(composed: DictConfig) -> None:
    """One job: the whole run, or one of a sweep."""
    composed.run_dir = HydraConfig.get().runtime.output_dir
    from dsrl.run import fit  # heavy imports only for what runs

    try:
        fit(RunConfig.of(composed))
    except DSRLError as error:  # here, since Hydra would add a traceback
        sys.exit(_complaint(error))


def _complaint(error: DSRLError) -> int:
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return 2
