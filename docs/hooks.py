"""What MkDocs calls while it builds the site: pages that are made from the code, and the list of decisions."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf

from dsrl.config import schema
from dsrl.config.compose import compose_tree, composing
from dsrl.config.help import attribute_docs
from dsrl.config.store import OPTIONAL
from dsrl.evaluation.align_config import compose_align
from dsrl.evaluation.config import compose_evaluation
from dsrl.evaluation.schema import AlignSchema, EvaluationSchema
from dsrl.registry import KINDS, config_schema, find, names

ROOT = Path(__file__).parents[1]
MAPPINGS = {"logger": "`local`", "callbacks": "`none`", "monitors": "[all](parts.md#monitor)"}
"""Keys that hold objects by their labels, and which of these there are by default."""
TYPES: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    Any: "any",
    list[str]: "list of text",
    list[float]: "list of numbers",
    list[int]: "list of whole numbers",
    dict[str, Any]: "mapping",
}


def on_config(config: Any) -> Any:
    """List every decision record in the navigation."""
    records = [str(path.relative_to(config["docs_dir"])) for path in _decisions()]
    config["nav"] = [
        {"Decisions": [entry["Decisions"], *records]} if "Decisions" in entry else entry for entry in config["nav"]
    ]
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put what is generated in place of its mark, e.g. `<!-- generated: configuration -->`, and of the line before it
    that says where to look without the site.
    """
    mark = r"(?:\*Built by mkdocs.*\*\n\n)?<!-- generated: (\w+) -->"
    return re.sub(mark, lambda found: GENERATED[found[1]](), markdown)


def configuration() -> str:
    """The keys of a run, group by group: type, default and meaning."""
    with composing():
        alone, two_phases = _raw(compose_tree([])), _raw(compose_tree(["+phase2=grpo"]))
    return "\n".join(_group("", schema.TrainSchema, alone, phase2=two_phases["phase2"]))


def evaluation() -> str:
    """The keys of an evaluation that a run does not have."""
    known = {field.name for field in dataclasses.fields(schema.TrainSchema)}
    return "\n".join(_table("", EvaluationSchema, _raw(compose_evaluation()), without=known))


def alignment() -> str:
    """The keys of a measurement of alignment that a run does not have, or has with another meaning."""
    known = {field.name for field in dataclasses.fields(schema.TrainSchema)} - {"objective"}
    return "\n".join(_table("", AlignSchema, _raw(compose_align()), without=known))


def parts() -> str:
    """Every registered part, kind by kind."""
    return "\n".join(line for kind in KINDS for line in _kind(kind))


def decisions() -> str:
    """A line for each decision record."""
    return "\n".join(f"- [{path.read_text().splitlines()[0].lstrip('# ')}]({path.name})" for path in _decisions())


GENERATED: dict[str, Callable[[], str]] = {
    made.__name__: made for made in (configuration, evaluation, alignment, parts, decisions)
}


def _decisions() -> list[Path]:
    return sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def _raw(composed: DictConfig) -> dict[str, Any]:
    """What a command composes that says no more, with references as they are written."""
    found: dict[str, Any] = OmegaConf.to_container(composed, resolve=False)  # type: ignore[assignment]
    return found


def _group(
    prefix: str, group: type, values: Mapping[str, Any], phase2: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """A section with a table of the keys of one group, then the groups within it.

    values: the defaults of the group; phase2: those of a phase after the first, of which there is none by default.
    """
    yield f"\n## {f'`{prefix}`' if prefix else 'Top level'}\n"
    if prefix:
        yield f"{inspect.cleandoc(group.__doc__ or '')}\n"
    yield from _table(prefix, group, values)
    for field in dataclasses.fields(group):
        kind = get_type_hints(group)[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _group(f"{prefix}.{field.name}".lstrip("."), kind, values[field.name])
        elif field.name == "phase2" and phase2:
            yield from _group("phase2", schema.PhaseConfig, phase2)


def _table(prefix: str, group: type, values: Mapping[str, Any], without: set[str] = frozenset()) -> Iterator[str]:
    hints = get_type_hints(group)
    yield "| key | type | default | |"
    yield "|---|---|---|---|"
    for field in dataclasses.fields(group):
        if field.name in without or dataclasses.is_dataclass(hints[field.name]):
            continue
        key = f"{prefix}.{field.name}".lstrip(".")
        is_part = field.name in {*KINDS, *OPTIONAL} and prefix != "checkpoint"  # whose `keep` is a number
        kind = "[a part](parts.md)" if is_part else _type(hints[field.name])
        default = MAPPINGS.get(key) or _shown(values[field.name])
        choice = f"Chosen by {'+' if field.name in OPTIONAL else ''}{field.name}=NAME." if is_part else ""
        yield f"| `{key}` | {kind} | {default} | {_meaning(group, field) or choice} |"


def _type(annotation: Any) -> str:
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return " or ".join(TYPES[kind] for kind in kinds)


def _default(field: dataclasses.Field[Any]) -> str:
    return _shown(field.default if field.default_factory is dataclasses.MISSING else field.default_factory())


def _shown(value: Any) -> str:
    """A default: a value, the name of a part, or the key whose value it has."""
    value = value["name"] if isinstance(value, dict) and "name" in value else value
    if value == "???":
        return "must be given"
    reference = re.fullmatch(r"\$\{([\w.]+)\}", str(value))
    return f"that of `{reference[1]}`" if reference else f"`{re.sub(r'[$][{]now:.*?[}]', '<time>', _yaml(value))}`"


def _meaning(group: Any, field: dataclasses.Field[Any]) -> str:
    """Return the docstring under a field; nothing for a function's parameter."""
    text = attribute_docs(group).get(field.name, "") if inspect.isclass(group) else ""
    return " ".join(text.split()).replace("|", "\\|")


def _kind(kind: str) -> Iterator[str]:
    yield f"\n## {kind}\n"
    for name in names(kind):
        part = find(kind, name)
        fields = [field for field in dataclasses.fields(config_schema(kind, name)) if field.name != "name"]
        yield f"### `{name}` {{: #{kind}-{name} }}\n"
        yield f"{inspect.cleandoc(part.__doc__ or '')}\n"
        if fields:
            yield "| parameter | default | |\n|---|---|---|"
            yield from (f"| `{field.name}` | {_default(field)} | {_meaning(part, field)} |" for field in fields)
            yield ""


def _yaml(value: Any) -> str:
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
    return yaml.safe_dump(plain, default_flow_style=True, width=1000, sort_keys=False).removesuffix("...\n").strip()
