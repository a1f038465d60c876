"""The words of a command line: parsed, refused where they contradict each other, and spelled out for Hydra."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from dsrl.errors import ConfigError
from dsrl.registry import KINDS, full_spec, names

PART_KINDS = {**{kind: kind for kind in KINDS if kind not in ("objective", "monitor", "probe")}, "start": "condition"}
"""The last word of a key that holds a part's spec, and its kind: `phase2.objective.surrogate`, `phase2.start`."""
AT_THE_ROOT = ("thoughts",)
"""Keys of the root that hold a part's spec, beside the groups, which are chosen by name alone."""
MAPS_OF_PARTS = ("objectives", "components", "sources")
"""The last words of keys that hold a mapping to parts, which replaces the one before it."""
NULL = "${oc.decode:null}"  # since choice(null) is refused


def read(overrides: Sequence[str]) -> list[Override]:
    """Parse the overrides. Raises ConfigError that names all which cannot be read."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    parsed, problems = [], []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            override = None
        if override is not None and override.key_or_group:
            parsed.append(override)
        else:
            hint = "write KEY=VALUE, with quotes around a value that holds spaces or special characters: KEY='\"a b\"'"
            problems.append(f"cannot read '{text}': {hint}")
    if problems:
        raise ConfigError("\n".join(problems))
    return parsed


def contradictions(overrides: Sequence[Override], *, multirun: bool) -> Iterator[str]:
    """Find what is wrong with the words, before anything is composed."""
    added = [override.key_or_group for override in overrides if override.is_add()]
    for key, count in Counter(added).items():
        if count > 1:
            values = [value_of(override) for override in overrides if override.key_or_group == key]
            yield f"{key} is given {count} times: {', '.join(values)}; give it once"
    for override in overrides:
        text = override.input_line
        if not override.is_sweep_override():
            continue
        if not multirun:
            yield f"{text}: several values are a sweep, which needs -m; a list is written [a,b]"
        elif not override.is_discrete_sweep():
            yield f"{text}: a sweep must name its values: a,b or choice(a,b) or range(1,5)"
        elif override.key_or_group in ("run_dir", "resume"):
            yield f"{text}: cannot be swept; the run folders of a sweep are run_dir/0, run_dir/1, ..."


def spelled_out(overrides: Sequence[Override]) -> list[str]:
    """Write the overrides so that a part that is chosen replaces the one before it, where Hydra would merge the two.

    All of its parameters are written out, so that `objective.surrogate=gspo objective.surrogate.clip_high=0.1` works.
    """
    spelled: list[str] = []
    for override in overrides:
        parent, _, last = override.key_or_group.rpartition(".")
        kind = PART_KINDS.get(last) if parent or last in AT_THE_ROOT else None
        values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
        whole = [_whole(kind, value) for value in values]
        replaces = any(isinstance(value, Mapping) and "name" in value for value in whole) if kind else False
        if replaces or (last in MAPS_OF_PARTS and isinstance(whole[0], Mapping)):
            # What follows is then not merged; ++, since Hydra's sweeper keeps one override of each spelling.
            spelled.append(f"++{override.key_or_group}=''")
            spelled.append(f"{override.key_or_group}={','.join(map(text_of, whole))}")
        else:
            spelled.append(str(override.input_line))
    return spelled


def jobs(overrides: Sequence[Override]) -> Iterator[list[str]]:
    """List the command lines of a sweep's jobs, in its order; just the one where nothing is swept."""
    choices = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [str(override.input_line)]
        for override in overrides
    ]
    yield from map(list, itertools.product(*choices))


def swept(overrides: Sequence[str]) -> list[str]:
    """Write the overrides of a sweep so that each is swept, most of them over one value.

    Hydra applies those that are not swept to the composition of the sweep itself, too, where they would miss what the
    swept ones bring: in `-m +phase2=grpo,gspo phase2.start=3` there is no phase 2 yet.
    """
    return [
        str(override.input_line)
        if override.is_sweep_override()
        or override.is_hydra_override()
        or override.is_delete()
        or override.key_or_group in ("run_dir", "experiment")
        else f"{override.get_key_element()}=choice({text_of(NULL if override.value() is None else override.value())})"
        for override in read(overrides)
    ]


def value_of(override: Override) -> str:
    """Return the value as it was written."""
    return str(override.input_line).partition("=")[2]


def search_path(folder: str) -> str:
    """Write the override by which Hydra looks for YAML files in `folder`, too (`--config-dir`)."""
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise ConfigError(f"--config-dir={folder}: no such folder")
    return f"hydra.searchpath=[{text_of(path.as_uri())}]"


def _whole(kind: str | None, value: Any) -> Any:
    """Write a part's parameters into its spec; anything else, an unknown name included, stays as it is."""
    if isinstance(value, QuotedString):
        value = value.text
    name = value.get("name") if isinstance(value, Mapping) else value
    return full_spec(kind, value) if kind and isinstance(name, str) and name in names(kind) else value


def text_of(value: Any) -> str:
    """Write a value in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}: {text_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(text_of, value)) + "]"
    if isinstance(value, QuotedString):
        return str(value.with_quotes())
    if isinstance(value, str):
        return str(QuotedString(text=value, quote=Quote.single).with_quotes())
    return "null" if value is None else str(value)
