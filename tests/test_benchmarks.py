"""Every benchmark starts, and those that need no more than the embedded model run, on the least of work."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FILES = sorted(file.stem for file in BENCHMARKS.glob("*.py"))


def run(name: str, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        patch.syspath_prepend(BENCHMARKS)  # where Python finds what a script imports when it is run
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")


@pytest.mark.parametrize("name", FILES)
def test_it_starts_and_says_how_it_is_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(name, "--help")
    assert ended.value.code == 0
    assert f"python benchmarks/{name}.py" in capsys.readouterr().out


def test_update_cost(capsys: pytest.CaptureFixture[str]) -> None:
    run("update_cost", "--prompts", "2", "--responses", "2", "--tokens", "4", "--pairs", "1")
    assert "over 1 pairs; token passes" in capsys.readouterr().out


def test_hf_sampler(capsys: pytest.CaptureFixture[str]) -> None:
    run("hf_sampler", "--model", "tiny", "--responses", "1", "--tokens", "4", "--pairs", "1")
    assert "ratio" in capsys.readouterr().out


def test_verifier_throughput(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"question": "?", "answer": str(number)}) + "\n" for number in range(40)))
    run("verifier_throughput", str(file), "--answers", "5", "--workers", "1", "--timeout", "1")
    assert "processes left: 0" in capsys.readouterr().out


def test_pass_memory(capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--tokens", "64", "--vocabularies", "64,4096", "--lengths", "16,64", "--length", "32", "--hidden", "64")
    run("pass_memory", *small)
    told = capsys.readouterr().out
    assert re.search(r"4,096 +\| 2 x 32", told) and re.search(r"largest / smallest over T: ours 1\.0", told)


def test_growth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "growth.svg"
    sizes = ("--b", "2", "--g", "2", "--t", "4", "--p", "8", "--vary", "P", "--most", "2", "--iterations", "2")
    run("growth", *sizes, "--plot", str(picture))
    assert re.search(r"\| exponent \|", capsys.readouterr().out) and "<svg" in picture.read_text()


def test_flop_rate(capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--models", "tiny", "--rows", "2", "--tokens", "4", "--rounds", "1", "--square", "64")
    run("flop_rate", *small)
    assert re.search(r"\| tiny +\| bfloat16 +\|", capsys.readouterr().out)


def test_gpu_check_lists_every_claim_and_runs_none_that_a_machine_cannot(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--list"], ["--accelerator", "cpu", "engine", "plan"]):
        with pytest.raises(SystemExit) as ended:
            run("gpu_check", *arguments)
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert "engine" in shown and "not run" in shown and "pass" not in shown


@pytest.mark.slow
def test_against_trl_runs_our_side(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--prompts", "2", "--responses", "2", "--tokens", "4", "--prompt-tokens", "8", "--iterations", "2")
    run("against_trl", "--model", "tiny", "--sides", "hf", "--pairs", "1", *sizes)
    assert "16 tokens sampled" in capsys.readouterr().out
