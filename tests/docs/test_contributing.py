"""The layers of CONTRIBUTING are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from snippets import ROOT

PACKAGE = ROOT / "dsrl"
FRONT_DOORS = ("__init__.py", "conditions.py")


def layers() -> dict[str, int]:
    """Room, or file of a room, to its line in the list of layers."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Layers")[2]
    lines = section.split("```text\n")[1].split("\n```")[0].splitlines()
    return {name: place for place, line in enumerate(lines) for name in re.split(r"\s{2,}", line)[0].split(", ")}


def layer_of(module: str, known: dict[str, int]) -> int:
    """The line of `loop/module`: that of the file where it has one, else that of its room."""
    parts = module.split("/")
    return known["/".join(parts[:2])] if "/".join(parts[:2]) in known else known[parts[0]]


def imports_of(path: Path) -> Iterator[str]:
    """What a file imports of dsrl when it is itself imported, as `loop/module`."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dsrl."):
            yield str(node.module).removeprefix("dsrl.").replace(".", "/")


def test_no_room_imports_what_stands_below_it() -> None:
    known = layers()
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
        if str(path.relative_to(PACKAGE)) in FRONT_DOORS:
            continue
        wrong += [
            f"{module} imports {name}" for name in imports_of(path) if layer_of(name, known) > layer_of(module, known)
        ]
    assert wrong == []
