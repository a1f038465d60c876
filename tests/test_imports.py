"""No cycle of imports between the modules of the package: neither when they run nor for a type checker."""

import ast
from pathlib import Path

import pytest

import dsrl

ROOT = Path(dsrl.__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "dsrl").rglob("*.py")
}


def imported(body, types):
    """Modules of the package that are imported when a module is: not those that a function imports."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imported(node.body, types) if types else ()
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from imported(node.body, types)


def cycle(graph):
    """Some cycle, or nothing: what is left when modules whose imports are all gone are taken away, again and again."""
    left = dict(graph)
    while free := [name for name, found in left.items() if not found & left.keys()]:
        for name in free:
            del left[name]
    used = set().union(*left.values()) if left else set()
    return {name: sorted(found & left.keys()) for name, found in left.items() if name in used}


@pytest.mark.parametrize("types", [False, True], ids=["run time", "types"])
def test_imports_form_no_cycle(types):
    graph = {
        name: {found for found in imported(ast.parse(path.read_text()).body, types) if found in MODULES} - {name}
        for name, path in MODULES.items()
    }
    assert len(graph) > 100
    assert cycle(graph) == {}


def test_a_cycle_is_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}).keys() >= {"b", "c"}
