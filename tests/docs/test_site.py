"""The site builds without a warning, loads nothing from elsewhere, and its reference leaves no public name out."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from snippets import ROOT

import dsrl

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"?(?:https?:)?//[^>]*>")
    found = {page.name: loaded.findall(page.read_text()) for page in site.rglob("*.html")}
    assert {name: tags for name, tags in found.items() if tags} == {}


def test_the_reference_has_every_public_name(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    documented = {line.split(" ", 1)[0] for line in zlib.decompress(inventory).decode().splitlines()}
    rooms = [dsrl.__name__, *(f"dsrl.{room.name}" for room in pkgutil.iter_modules(dsrl.__path__) if room.ispkg)]
    public = {f"{room}.{name}" for room in rooms for name in getattr(importlib.import_module(room), "__all__", ())}
    assert len(public) > 30
    assert {name for name in public if "__" not in name} - documented == set()


def test_the_configuration_has_every_key(site: Path) -> None:
    page = (site / "reference" / "configuration.html").read_text()
    for key in ("iterations", "phase2.start", "sampling.max_new_tokens", "model.lora.rank", "checkpoint.best"):
        assert f"<code>{key}</code>" in page
    assert "generated:" not in page and "Built by mkdocs" not in page


def test_defaults_are_those_that_a_command_composes(site: Path) -> None:
    page = (site / "reference" / "configuration.html").read_text()
    for key, default in {
        "model.name": "<code>tiny</code>",
        "model.lr": "<code>0.0001</code>",
        "checkpoint.keep": "<code>1</code>",
        "run_dir": "<code>runs/&lt;time&gt;</code>",
        "phase2": "<code>null</code>",
        "phase2.start": "that of <code>model.phase1_iterations</code>",
        "thoughts": "that of <code>model.thoughts</code>",
        "verifier": "<code>exact</code>",
    }.items():
        assert default_of(key, page) == default, key
    assert default_of("objective", (site / "alignment.html").read_text()) == "<code>nsr_prerl</code>"


def default_of(key: str, page: str) -> str:
    """What the table of a page has in the third cell of a key's row."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    cells = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in rows]
    (found,) = {row[2] for row in cells if len(row) > 3 and row[0] == f"<code>{key}</code>"}
    return found


def test_the_map_of_the_readme_is_that_of_the_tree() -> None:
    (tree,) = re.findall(r"^```text\n(train\.py .*?)```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    rooms = set()
    for line in tree.splitlines():
        first, _, rest = line.partition("  ")
        assert all((ROOT / name).exists() for name in first.split()), line
        rooms |= {name.split("/")[1] for name in first.split() if name.startswith("dsrl/")}
        for name in re.findall(r"[\w/]+(?:\.py|\.yaml|/)(?=[\s,:;)]|$)", rest):
            assert (ROOT / first.split()[0] / name).exists(), name
    assert rooms >= {room.name for room in pkgutil.iter_modules(dsrl.__path__) if room.ispkg}
