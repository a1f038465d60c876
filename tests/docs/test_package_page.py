"""What a package index shows of dsrl."""

from __future__ import annotations

import re
import runpy
import tomllib

from snippets import ROOT

HOOK = runpy.run_path(str(ROOT / "hatch_build.py"))
TEXT = "![A run](docs/img/run.png)\n\nSee [all](docs/all.md), [the paper](https://a.org/1) and [below](#below).\n"


def test_links_and_images_lead_to_the_repository():
    assert HOOK["readme_for_index"](TEXT, "https://github.com/a/b") == (
        "![A run](https://github.com/a/b/raw/main/docs/img/run.png)\n\n"
        "See [all](https://github.com/a/b/blob/main/docs/all.md), [the paper](https://a.org/1) and [below](#below).\n"
    )
    assert HOOK["addresses"]("https://github.com/a/b")["Issues"] == "https://github.com/a/b/issues"


def test_without_a_repository_nothing_leads_nowhere():
    assert HOOK["readme_for_index"](TEXT, "") == "See all, [the paper](https://a.org/1) and [below](#below).\n"
    assert [*HOOK["addresses"]("")] == ["Paper"]
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\(([^)]+)\)", HOOK["readme_for_index"](readme, ""))
    assert targets and [target for target in targets if not target.startswith(("https://", "#"))] == []
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", readme):
        assert (ROOT / target).exists(), target


def test_the_classifiers_have_every_python_that_is_said_to_do():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [text.rpartition(" ")[2] for text in project["classifiers"] if re.search(r"Python :: 3\.\d+$", text)]
    assert named == ["3.11", "3.12", "3.13"] and project["requires-python"] == ">=3.11"
