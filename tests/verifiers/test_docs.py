"""What docs/your_verifier.md shows is true."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dsrl import build, names
from dsrl.config.command_line import search_path
from dsrl.config.compose import compose
from dsrl.registry import config_schema, find
from dsrl.types import Prompt
from dsrl.verifiers.contract import CHECKS, Bench

PAGE = (Path(__file__).parents[2] / "docs" / "your_verifier.md").read_text()


def indented(start: str) -> str:
    """The indented block in which `start` stands."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", PAGE, re.MULTILINE)
    (found,) = [block for block in blocks if start in block]
    return textwrap.dedent(found).strip()


def test_the_table_has_every_verifier_and_every_parameter() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, re.MULTILINE))
    assert sorted(rows) == sorted(
        name for name in names("verifier") if find("verifier", name).__module__.startswith("dsrl.")
    )
    for name, parameters in rows.items():
        fields = [field.name for field in dataclasses.fields(config_schema("verifier", name)) if field.name != "name"]
        defaults = re.sub(r"\(.*?\)", "", parameters)
        assert sorted(re.findall(r"`(\w+)`", defaults)) == sorted(fields), name


def test_the_function(tmp_path: Path, make_rollouts) -> None:
    code = indented("def short_and_right").partition("<<'EOF'\n")[2].partition("\nEOF")[0]
    (tmp_path / "my_rewards.py").write_text(code)
    path = f"{tmp_path}/my_rewards.py:short_and_right"
    verifier = build("verifier", {"name": "function", "path": path, "workers": 1})
    rewards = verifier.score(make_rollouts([["# 7", "x" * 60 + "# 7", "# 8"]], ["7"]))
    verifier.close()
    assert rewards.tolist() == [[1, 0.5, 0]]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_class(check) -> None:
    code = indented("class Digits").partition("$ DSRL_PLUGINS")[0]
    scope: dict = {"__name__": __name__}
    code = code.replace('@register("verifier", "digits")\n', "")  # its registration would outlive this test
    exec(compile(code, "docs", "exec", dont_inherit=True), scope)
    prompt = Prompt(position=0, text="1+1=", token_ids=(1,), ground_truth="2")
    check(Bench(verifier=scope["Digits"](), prompt=prompt, right="# 2", wrong="# 3"))


def test_the_file_and_the_command(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    (tmp_path / "verifier").mkdir()
    (tmp_path / "verifier" / "ours.yaml").write_text(indented("name: by_source"))
    given = OmegaConf.to_container(OmegaConf.load(tmp_path / "verifier" / "ours.yaml"))
    verifier = build("verifier", given)
    assert [*verifier.sources] == ["openai/gsm8k", "reasoning_gym/*", "code"]
    components = re.search(r'"(verifier.components=\{exact.*?\})"', PAGE)
    assert components is not None
    assert search_path(str(tmp_path))
    assert [*compose(["verifier=composite", components[1]]).verifier.components] == ["exact", "length"]
