"""What MkDocs calls while it builds the site: pages that are made from the code, and the list of decisions."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from dsrl.config import schema
from dsrl.config.help import attribute_docs
from dsrl.config.store import OPTIONAL
from dsrl.evaluation.schema import AlignSchema, EvaluationSchema
from dsrl.registry import KINDS, config_schema, find, names

ROOT = Path(__file__).parents[1]
DEFAULTS = yaml.safe_load((ROOT / "configs" / "train.yaml").read_text())["defaults"]
CHOSEN = {group: f"`{name}`" for entry in DEFAULTS if isinstance(entry, dict) for group, name in entry.items()}
CHOSEN["monitors"] = "[all](parts.md#monitor)"
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
    """Put what is generated in place of its mark, e.g. `<!-- generated: configuration -->`."""
    return re.sub(r"<!-- generated: (\w+) -->", lambda mark: GENERATED[mark[1]](), markdown)


def configuration() -> str:
    """The keys of a run, group by group: type, default and meaning."""
    return "\n".join(_group("", schema.TrainSchema))


def evaluation() -> str:
    """The keys of an evaluation that a run does not have."""
    known = {field.name for field in dataclasses.fields(schema.TrainSchema)}
    return "\n".join(_table("", EvaluationSchema, without=known))


def alignment() -> str:
    """The keys of a measurement of alignment that a run does not have, or has with another meaning."""
    known = {field.name for field in dataclasses.fields(schema.TrainSchema)} - {"objective"}
    return "\n".join(_table("", AlignSchema, without=known))


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


def _group(prefix: str, group: type) -> Iterator[str]:
    """A section with a table of the keys of one group, then the groups within it."""
    yield f"\n## {f'`{prefix}`' if prefix else 'Top level'}\n"
    if prefix:
        yield f"{inspect.cleandoc(group.__doc__ or '')}\n"
    yield from _table(prefix, group)
    for field in dataclasses.fields(group):
        kind = get_type_hints(group)[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _group(f"{prefix}.{field.name}".lstrip("."), kind)
        elif field.name == "phase2":
            yield from _group("phase2", schema.PhaseConfig)


def _table(prefix: str, group: type, without: set[str] = frozenset()) -> Iterator[str]:
    hints = get_type_hints(group)
    yield "| key | type | default | |"
    yield "|---|---|---|---|"
    for field in dataclasses.fields(group):
        if field.name in without or dataclasses.is_dataclass(hints[field.name]):
            continue
        key, is_part = f"{prefix}.{field.name}".lstrip("."), field.name in KINDS or field.name in OPTIONAL
        kind = "[a part](parts.md)" if is_part else _type(hints[field.name])
        default = CHOSEN.get(key) or _default(field)
        choice = f"Chosen by {'+' if field.name in OPTIONAL else ''}{field.name}=NAME." if is_part else ""
        yield f"| `{key}` | {kind} | {default} | {_meaning(group, field) or choice} |"


def _type(annotation: Any) -> str:
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return " or ".join(TYPES[kind] for kind in kinds)


def _default(field: dataclasses.Field[Any]) -> str:
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if default == "???":
        return "must be given"
    reference = re.fullmatch(r"\$\{([\w.]+)\}", str(default))
    return f"that of `{reference[1]}`" if reference else f"`{_yaml(default)}`"


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
