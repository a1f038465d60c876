"""The words of a command line composed into a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from omegaconf import DictConfig

from dsrl.config.build import build_run_config
from dsrl.config.command_line import contradictions, jobs, read, spelled_out, swept
from dsrl.config.explain import COMPOSITION_ERRORS, bad_choice, misplaced, what_is_wrong
from dsrl.config.resumed import with_saved
from dsrl.config.run_config import RunConfig
from dsrl.config.store import config_dir, store_registry
from dsrl.errors import ConfigError


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """Compose and check the configuration of a run, e.g. `compose(["objective=nsr_prerl", "+phase2=grpo"])`.

    Takes the words of the command line. Raises ConfigError with every problem found, one a line.
    """
    with composing():
        return build_run_config(compose_tree(overrides))


def check_command_line(
    overrides: Sequence[str], *, multirun: bool = False, check: Callable[[DictConfig], Any] = build_run_config
) -> list[str]:
    """Compose and check every job that a command line asks for.

    Args:
        overrides: the words of the command line.
        multirun: whether it is a sweep, in which a word may hold several values.
        check: called with the composed tree of each job; raises ConfigError where the job cannot run.

    Returns:
        The overrides as Hydra is to have them.

    Raises:
        ConfigError: with every problem found, one a line.
    """
    problems: list[str] = []
    with composing():
        spelled = _spelled(overrides, multirun=multirun, resumes=not multirun)
        spelled = swept(spelled) if multirun else spelled
        for number, job in enumerate(jobs(read(spelled))):
            try:
                composed = _composed(job, "train")
                if multirun:
                    composed.run_dir = f"{composed.run_dir}/{number}"
                check(composed)
            except ConfigError as error:
                problems += str(error).splitlines()
        if problems:
            raise ConfigError("\n".join(dict.fromkeys(problems)))
        return spelled


def compose_tree(overrides: Sequence[str], root: str = "train") -> DictConfig:
    """Compose the typed tree of a root, `configs/ROOT.yaml`; its values are not checked against each other yet.

    To be called within `composing()`. Raises ConfigError with every problem found, one a line.
    """
    return _composed(_spelled(overrides, multirun=False, resumes=root == "train"), root)


@contextmanager
def composing() -> Iterator[None]:
    """Let Hydra read the configurations of dsrl.

    Where the caller runs under Hydra itself, its configuration and its version stay in force afterwards.
    """
    store_registry()
    its, version = GlobalHydra.instance(), VersionBase.instance()
    hydra, base = its.hydra, version.version_base
    its.clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            yield
    finally:
        its.hydra, version.version_base = hydra, base
        GlobalHydra.set_instance(its)


def _spelled(overrides: Sequence[str], *, multirun: bool, resumes: bool) -> list[str]:
    """Spell a line out; one that resumes a run, with what that run was made with."""
    parsed = read(overrides)
    problems = [*contradictions(parsed, multirun=multirun), *filter(None, map(bad_choice, parsed))]
    if problems:
        raise ConfigError("\n".join(problems))
    if resumes:
        parsed = read(with_saved(parsed, lambda words: _composed(spelled_out(read(words)), "train")))
    return spelled_out(parsed)


def _composed(overrides: Sequence[str], root: str) -> DictConfig:
    try:
        composed = hydra_compose(root, list(overrides))
    except COMPOSITION_ERRORS as error:
        raise ConfigError("\n".join(what_is_wrong(read(overrides), root)) or str(error)) from error
    if problems := [*misplaced(composed)]:
        raise ConfigError("\n".join(problems))
    return composed
