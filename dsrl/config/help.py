"""The text of `python train.py --help`: registered names, and every key with its value and what it is for."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dsrl.command import broken, called_as, width
from dsrl.config.compose import compose_tree, composing
from dsrl.config.explain import OPEN, options
from dsrl.config.settled import Settled
from dsrl.config.store import GROUPS, LATER_PHASES
from dsrl.registry import KINDS, find, names

FILES = ("model", "trainer", "logger", "callbacks", "experiment")
"""Groups whose options are YAML files alone."""
PARTS = ("space", "advantage", "keep", "surrogate", "aggregate", "token_weight")
NARROW = 110
"""Columns below which what a key is for stands below it where it does not fit beside."""
HEAD = """\
dsrl: reinforcement learning of language models in two spaces, P(y|x) and P(y)

  {train} objective=NAME [+phase2=NAME] [phase2.start=N] [KEY=VALUE ...]
  {train} -m objective=grpo,nsr_prerl        a sweep: one run each
  {train} [KEY=VALUE ...] --cfg job          the configuration that would run
  {train} [KEY=VALUE ...] --cfg prompt       the first prompt, as the model would read it
"""


def help_text(overrides: Sequence[str]) -> str:
    """Write the help of a command line: its values are those that it composes. Raises ConfigError."""
    with composing():
        composed = compose_tree(overrides)
        lines = [
            HEAD.format(train=called_as("dsrl.train")),
            "Names (GROUP=NAME; +phase2=NAME where an experiment does not set it)",
        ]
        lines.append(_listed("objective, phase2 .. phase5", names("objective")))
        lines += [_listed(group, options(group)) for group in (*GROUPS[1:], *FILES)]
    lines += ["", "Parts of an objective (objective.KEY=NAME, or objective.KEY={name: NAME, parameter: value})"]
    lines += [_listed(kind, names(kind)) for kind in PARTS]
    lines += ["", "Conditions (phase2.start={name: NAME, metric: KEY})", _listed("condition", names("condition"))]
    lines += ["", "Monitors (monitors.NAME.action=off, warn, handoff or stop)", _listed("monitor", names("monitor"))]
    lines += [
        "",
        "Thoughts (thoughts=NAME, or thoughts={name: NAME, parameter: value})",
        _listed("thoughts", names("thoughts")),
    ]
    lines += ["", "Probes (+probe=NAME, probe.every=N)", _listed("probe", names("probe"))]
    lines += ["", "Keys, their values in this command line, and what they are for (KEY=VALUE)"]
    lines += [*_section(composed, "")]
    lines += ["", "Options of Hydra itself: --hydra-help"]
    return "\n".join(lines)


def attribute_docs(kind: type) -> dict[str, str]:
    """Read the docstrings under the fields of a class and its bases, which Python does not keep."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        try:
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError):  # a class without source
            continue
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = str(text.value.value)
    return found


def _listed(group: str, choices: Sequence[str]) -> str:
    return broken(f"  {group:29} {', '.join(choices)}", indent=32)


def _section(node: DictConfig, prefix: str) -> Iterator[str]:
    """Describe the keys of a node that have a value; then, each under its heading, those that hold other keys."""
    docs = _docs(node, prefix)
    raw: dict[str, Any] = OmegaConf.to_container(node, resolve=False)  # type: ignore[assignment]
    nested = {key: value for key, value in raw.items() if isinstance(value, dict) and value}
    for key, value in raw.items():
        is_choice = key in GROUPS or key in LATER_PHASES or (key == "name" and prefix != "model.")
        if key not in nested and not is_choice:
            shown = value if isinstance(value, str) else json.dumps(value)
            about = docs.get(key, "")
            line = f"  {f'{prefix}{key}':34} {shown:24} {about}".rstrip()
            if about and len(line) > width() < NARROW:
                yield from (f"  {f'{prefix}{key}':34} {shown}", broken(f"{' ' * 6}{about}", indent=6))
            else:
                yield broken(line, indent=62)
    for key, value in nested.items():
        kind = OmegaConf.get_type(node, key)
        about = _first_paragraph(kind) if isinstance(kind, type) and issubclass(kind, Settled) else docs.get(key, "")
        chosen = "name" in value and key not in ("model", value["name"])
        heading = f"{prefix}{key}={value['name']}" if chosen else f"{prefix}{key}"
        yield "\n" + broken(f"{heading}{f'   {about}' if about else ''}", indent=2)
        if prefix + key in OPEN:
            yield from (f"  {f'{key}.{name}':34} {spec.get('_target_')}" for name, spec in value.items())
        else:
            yield from _section(node[key], f"{prefix}{key}.")


def _docs(node: DictConfig, prefix: str) -> dict[str, str]:
    """Docstrings of a node's fields: those of its schema, or of the part that it chooses."""
    kind, keys = OmegaConf.get_type(node), prefix.removesuffix(".").split(".")
    group = "monitor" if keys[:-1] == ["monitors"] else keys[-1]
    part = find(group, node.name) if group in KINDS and "name" in node else kind
    return attribute_docs(part) if inspect.isclass(part) and dataclasses.is_dataclass(part) else {}


def _first_paragraph(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
