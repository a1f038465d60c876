"""Every snippet of README, CONTRIBUTING and docs does what it says: Python runs, commands are checked or run."""

from __future__ import annotations

import importlib
import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from commands import check_command, commands_of, run_command
from snippets import PAGES, ROOT, Snippet, snippets_of

SKIPPED_AT_MOST = 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_snippet_of_a_page(page: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where parts that the page registers are looked up
    for snippet in snippets_of(page):
        if snippet.mark.startswith("skip"):
            continue
        try:
            evaluate(snippet, vars(module), own_folder)
        except Exception as error:
            error.add_note(f"in the snippet at {snippet.place}")
            raise


def evaluate(snippet: Snippet, scope: dict[str, Any], folder: Path) -> None:
    """Run a snippet, or check what it says; `scope` holds the names that the page's Python has defined so far."""
    if snippet.title:
        path = folder / snippet.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(snippet.code)
    if snippet.language == "python" and snippet.title:
        importlib.invalidate_caches()
        importlib.import_module(".".join(Path(snippet.title).with_suffix("").parts))
    elif snippet.language == "python":
        code = "\n" * (snippet.line - 1) + snippet.code  # tracebacks then show the page's lines
        exec(compile(code, str(snippet.page), "exec", dont_inherit=True), scope)
    elif snippet.language == "bash":
        for command in commands_of(snippet.code):
            if snippet.runs:
                run_command(command, snippet.overrides)
            else:
                check_command(command)
    elif snippet.language == "yaml":
        yaml.safe_load(snippet.code)
    elif snippet.language == "toml":
        project = tomllib.loads(snippet.code).get("project", {})
        for plugin in project.get("entry-points", {}).get("dsrl.plugins", {}).values():
            importlib.import_module(plugin.partition(":")[0])
    elif snippet.language == "json":
        for line in snippet.code.splitlines():
            json.loads(line)


def test_nearly_every_snippet_is_run_or_checked() -> None:
    found = [snippet for page in PAGES for snippet in snippets_of(page)]
    skipped = [snippet.place for snippet in found if snippet.mark.startswith("skip")]
    assert len(skipped) <= SKIPPED_AT_MOST, skipped
