"""What the folder of the configuration may know: to compose is not to read a run, nor to load a loop."""

import ast
from pathlib import Path

import dsrl.config

ABOVE = ("dsrl.runs", "dsrl.loop", "dsrl.evaluation", "dsrl.parallel")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_configuration_imports_nothing_above_it():
    files = sorted(Path(dsrl.config.__path__[0]).glob("*.py"))
    assert len(files) > 5
    assert not [(path.name, name) for path in files for name in imported(path) if name.startswith(ABOVE)]
