"""docs/your_verifier.md: its table is complete, and every block of code in it runs and prints what it says."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dsrl import names
from dsrl.config.command_line import search_path
from dsrl.loop.module import DSRLModule
from dsrl.registry import config_schema, find

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your_verifier.md").read_text()
BLOCKS = re.findall(r'^```(\w*)(?: title="([^"\n]*)")?\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
FILES = {title: code for _, title, code in BLOCKS if title}
PYTHON = [code for language, title, code in BLOCKS if language == "python" and not title]
COMMANDS = [code for language, title, code in BLOCKS if language == "bash"]
TRAIN = "python train.py "
SMALL = (
    "iterations=1",
    "prompts_per_iteration=2",
    "responses_per_prompt=2",
    "sampling.max_new_tokens=8",
    "data.train_size=20",
    "validation.every=0",
)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page shows, as the reader's."""
    for name, code in {**FILES, "train.py": (ROOT / "train.py").read_text()}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_is_a_file_or_runs_here() -> None:
    assert len(BLOCKS) == len(re.findall(r"^```\w*", PAGE, re.MULTILINE)) / 2
    assert len(FILES) + len(PYTHON) + len(COMMANDS) == len(BLOCKS)
    assert not re.search(r"^ {4}", re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)


def test_the_table_has_every_verifier_and_every_parameter() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, re.MULTILINE))
    assert sorted(rows) == sorted(
        name for name in names("verifier") if find("verifier", name).__module__.startswith("dsrl.")
    )
    for name, parameters in rows.items():
        fields = [field.name for field in dataclasses.fields(config_schema("verifier", name)) if field.name != "name"]
        defaults = re.sub(r"\(.*?\)", "", parameters)
        assert sorted(re.findall(r"`(\w+)`", defaults)) == sorted(fields), name


@pytest.mark.parametrize("code", PYTHON)
def test_python_prints_what_the_page_says(code: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "your_verifier.md", "exec", dont_inherit=True), {})
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert expected
    printed = capsys.readouterr().out.splitlines()
    assert printed == expected or ("check()" in code and printed == [])  # the sandbox cannot be had everywhere


def in_a_shell(command: str) -> str:
    """The output of a command that succeeds, where `python` is this one, with dsrl."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-ec", command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith(TRAIN)])
def test_runs(command: str, workspace: Path, fit: Callable[..., DSRLModule]) -> None:
    """In this process, and made small."""
    words = [
        search_path(word.partition("=")[2]) if word.startswith("--config-dir=") else word
        for word in shlex.split(command.removeprefix(TRAIN))
    ]
    fit(*words, *SMALL, f"run_dir={workspace / 'run'}")
    assert (workspace / "run" / "samples.jsonl").read_text().count("extracted_answer") == 4


def test_other_commands(workspace: Path) -> None:
    plugin, checks = [command.strip() for command in COMMANDS if not command.startswith(TRAIN)]
    in_a_shell(f"{plugin} {' '.join(SMALL)} logger=none run_dir=run")
    assert (workspace / "run" / "samples.jsonl").read_text().count("extracted_answer") == 4
    assert "6 passed" in in_a_shell(checks)
