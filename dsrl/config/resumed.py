"""`resume=last run_dir=RUN` or `resume=PATH`, and nothing else: the rest of a command line is what the run saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, QuotedString
from omegaconf import DictConfig, OmegaConf

from dsrl.config.command_line import text_of
from dsrl.config.renamed import in_todays_words
from dsrl.config.store import GROUPS, LATER_PHASES, OPTIONAL
from dsrl.errors import ConfigError

OF_THE_FOLDER = ("logger", "callbacks")
"""Keys that follow a run into its own folder only: what they write there is not for another."""
NEW = ("run_dir", "resume")
"""Keys that a line says anew."""
PARTS = (*GROUPS, *OPTIONAL)
"""Groups of parts, which have registered names."""
FILES = ("model", "trainer", "logger", "callbacks", "experiment")
"""Groups of files."""
OBJECTS = ("logger", "callbacks", "monitors")
"""Mappings to which a line may have added entries."""


def with_saved(given: Sequence[Override], compose: Callable[[list[str]], DictConfig]) -> list[str]:
    """Write the words of a line that resumes a run, after those that make it the run that was saved.

    What the line itself says wins. A part or file that it chooses (`verifier=NAME`, `trainer=NAME`) is taken whole from
    the line, unless it is the part that was saved; a later phase keeps its settings when it gets another objective.

    Args:
        given: the words of the line.
        compose: makes a tree of words.

    Returns:
        The words; those of the line alone where nothing is resumed, or where the run folder holds no run yet.

    Raises:
        ConfigError: the saved configuration cannot be read, or no run is named.
    """
    saved = _saved(given)
    if saved is None:
        return [str(override.input_line) for override in given]
    words = [_word(override, given, saved) for override in given]
    choices = [word for word, override in zip(words, given, strict=True) if _chooses(override)]
    chosen = {override.key_or_group: override.value() for override in given if _chooses(override)}
    left = {*NEW, *_replaced(chosen, saved), *_of_experiments(choices, compose)}
    if _text(given, "resume") != "last":
        left |= {*OF_THE_FOLDER}
    parts = list(_parts(compose(choices), saved, {*chosen, *left}))
    there = compose([*parts, *choices, f"run_dir={text_of(saved.get('run_dir', ''))}"])
    values = [
        f"++{key}={text_of(value)}"
        for key, value in _differences(OmegaConf.to_container(there, resolve=True), saved, "")
        if not stands_below(key, left)
    ]
    return [*parts, *values, *words]


def stands_below(key: str, keys: Iterable[str]) -> bool:
    """Whether a dotted key is one of others, or below one."""
    return any(key == own or key.startswith(f"{own}.") for own in keys)


def saved_config(resume: str, run_dir: str | None) -> dict[str, Any] | None:
    """Read the configuration of the run that goes on; None where its folder holds none yet.

    Args:
        resume: `last`, or the path of a checkpoint.
        run_dir: the folder of `last`.

    Raises:
        ConfigError: what is there cannot be read.
    """
    if problem := missing_checkpoint(resume):
        raise ConfigError(problem)
    if resume != "last":
        return _of_checkpoint(Path(resume).expanduser())
    path = Path(run_dir or "").expanduser() / "config.yaml"
    if not path.is_file():
        return None
    try:
        loaded: Any = OmegaConf.to_container(OmegaConf.load(path))
        return in_todays_words(loaded or {})
    except Exception as error:  # whatever a damaged file leads the reader into
        raise ConfigError(f"resume=last: {path} cannot be read ({type(error).__name__})") from error


def missing_checkpoint(resume: str | None) -> str | None:
    """Say that what `resume` names is not there, and what is beside it; None where it is."""
    if resume is None or resume == "last" or os.path.exists(path := Path(resume).expanduser()):
        return None
    beside = sorted(other.name for other in path.parent.glob("*.ckpt"))
    there = f"{path.parent} has {', '.join(beside)}" if beside else "`last` is the newest in run_dir"
    return f"resume={resume}: no such checkpoint; {there}"


def _of_checkpoint(path: Path) -> dict[str, Any] | None:
    """The configuration in a checkpoint; None where it is none, of which the run's start says more."""
    from dsrl.storage.checkpoint_files import UnreadableCheckpoint, read_checkpoint  # loads torch

    try:
        return in_todays_words(read_checkpoint(path)["dsrl"]["config"])
    except UnreadableCheckpoint:
        return None


def _saved(given: Sequence[Override]) -> dict[str, Any] | None:
    resume, run_dir = _text(given, "resume"), _text(given, "run_dir")
    if resume is None:
        return None
    if resume == "last" and run_dir is None and not any(override.key_or_group == "experiment" for override in given):
        raise ConfigError("resume=last: of which run? give run_dir=FOLDER, too")
    saved = saved_config(resume, run_dir)
    says_no_more = {override.key_or_group for override in given} <= {*NEW}
    if saved is None and run_dir is not None and says_no_more and not _holds_a_policy(Path(run_dir).expanduser()):
        raise ConfigError(
            f"resume=last: run_dir={run_dir} holds no run; a line that is to start one there, too, says what to train"
        )
    return saved


def _holds_a_policy(folder: Path) -> bool:
    return any(folder.glob("checkpoints/*.ckpt")) or (folder / "hf").exists()


def _text(given: Sequence[Override], key: str) -> str | None:
    values = [override.value() for override in given if override.key_or_group == key and not override.is_delete()]
    if not values or values[-1] is None:
        return None
    return values[-1].text if isinstance(values[-1], QuotedString) else str(values[-1])


def _chooses(override: Override) -> bool:
    """Whether a word chooses a part or a file by name."""
    return override.key_or_group in (*PARTS, *FILES)


def _word(override: Override, given: Sequence[Override], saved: Mapping[str, Any]) -> str:
    """Write a word as it is; or so that it replaces what the saved run may have in its place already."""
    word, key = str(override.input_line), override.key_or_group
    if not _chooses(override):
        return f"+{word}" if override.is_add() else word
    experiment = any(other.key_or_group == "experiment" for other in given)
    return f"+{word}" if key in OPTIONAL and word.startswith(key) and saved.get(key) and not experiment else word


def _name_of(config: Any, group: str) -> str | None:
    """The registered name of what a configuration has in a group; None where it has nothing there."""
    part = config.get(group)
    if group in LATER_PHASES and part is not None:
        part = part.get("objective")
    return None if part is None else str(part.get("name"))


def _parts(now: DictConfig, saved: Mapping[str, Any], chosen: Container[str]) -> Iterator[str]:
    """Choose the saved parts where the line chooses none."""
    for group in PARTS:
        is_, was = _name_of(now, group), _name_of(saved, group)
        if group in chosen or group not in saved or is_ == was:  # an earlier version may not have had it
            continue
        if was is None:
            yield f"~{group}"
        else:
            yield f"{group}={was}" if is_ is not None else f"+{group}={was}"
    for group in OF_THE_FOLDER:
        if group not in chosen and group in saved and {*now[group]} - {*saved[group]}:
            yield f"{group}=none"


def _replaced(chosen: Mapping[str, Any], saved: Mapping[str, Any]) -> Iterator[str]:
    """Find the keys that the choices of a line replace."""
    for group, name in chosen.items():
        if group not in PARTS or name != _name_of(saved, group):
            yield f"{group}.objective" if group in LATER_PHASES and saved.get(group) is not None else group


def _of_experiments(choices: Sequence[str], compose: Callable[[list[str]], DictConfig]) -> Iterator[str]:
    """Find the keys that the experiments of a line set."""
    experiments = [word for word in choices if word.startswith("experiment=")]
    if experiments:
        plain, set_ = (OmegaConf.to_container(compose(words), resolve=True) for words in ([], experiments))
        yield from (key for key, _ in _differences(plain, set_, ""))


def _differences(now: Any, saved: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Find where a tree differs from the saved one: key and saved value, of a part with another name the whole."""
    if not (isinstance(now, Mapping) and isinstance(saved, Mapping)) or now.get("name") != saved.get("name"):
        if now != saved:
            yield prefix, saved
        return
    for key, value in saved.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if key in now:
            yield from _differences(now[key], value, name)
        elif prefix in OBJECTS:
            yield name, value
