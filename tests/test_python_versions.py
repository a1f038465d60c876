"""Other interpreters of this machine compile dsrl without a warning: a type checker knows nothing of these."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILE = """
import pathlib, sys
for path in map(pathlib.Path, sys.argv[1:]):
    for file in path.rglob("*.py"):
        compile(file.read_text(encoding="utf-8"), str(file), "exec")
"""


def interpreter(version: str) -> str | None:
    """Find one that runs, on the path or of pyenv."""
    found = [shutil.which(f"python{version}"), *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    return next(
        (one for one in filter(None, found) if not subprocess.run([one, "-c", ""], capture_output=True).returncode),
        None,
    )


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_it_compiles(version):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    folders = [str(ROOT / name) for name in ("dsrl", "tests", "benchmarks")]
    done = subprocess.run(
        [python, "-W", "error", "-c", COMPILE, *folders], capture_output=True, text=True, env={**os.environ}
    )
    assert (done.returncode, done.stderr) == (0, "")
