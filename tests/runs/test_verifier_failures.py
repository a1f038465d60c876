"""What a verifier fails on is in the run folder, counted on the terminal, and a reason to stop."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import dsrl.runs.failure_file
from dsrl.errors import DSRLError
from dsrl.runs.failure_file import append_failures
from dsrl.runs.verifier_failures import VerifierFailures
from dsrl.verifiers.failures import Failure, Failures

REWARDS = """
def sometimes(response, prompt):
    if len(response) % 3 == 0:
        raise ValueError("a third of them")
    return 1.0

def never(response, prompt):
    return 1 / 0
"""


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "verifier_failures.jsonl").read_text().splitlines()]


def test_failures_are_in_the_run_folder_and_counted(fit, tmp_path, capsys):
    (tmp_path / "own.py").write_text(REWARDS)
    parts = ["verifier=function", f"verifier.path={tmp_path}/own.py:sometimes", "verifier.workers=1"]
    module = fit(*parts, "verifier.max_failed=1", "iterations=2", "report=false")
    failed = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    shares = [line["reward/failed"] for line in failed if "reward/failed" in line]
    found = lines(tmp_path / "run")
    assert {line["iteration"] for line in found} == {-1, 0, 1}
    assert sum(line["iteration"] == 0 for line in found) == min(20, round(shares[0] * 24))
    first = found[0]
    assert first["rank"] == 0 and first["verifier"] == f"verifier function: {tmp_path}/own.py:sometimes"
    assert first["message"] == f"ValueError: a third of them ({tmp_path}/own.py, line 4)"
    assert len(first["response"]) % 3 == 0 and "raise ValueError" in first["traceback"] and first["question"]
    total = round(sum(shares) * 24)
    counted = next(c for c in module.trainer.callbacks if isinstance(c, VerifierFailures)).totals.popitem()[1]
    assert counted.checked == 2 * 24 + 2 * 12 and counted.raised >= total
    told = capsys.readouterr().out
    assert f"own.py:sometimes raised on {counted.raised} of {counted.checked} responses so far: " in told


def test_what_stops_the_run_is_in_its_folder(fit, tmp_path):
    (tmp_path / "own.py").write_text(REWARDS)
    parts = ["verifier=function", f"verifier.path={tmp_path}/own.py:never", "validation.every=0", "verifier.workers=1"]
    with pytest.raises(DSRLError, match=r"own.py:never failed on each of 24 responses: ZeroDivisionError: .*line 8"):
        fit(*parts)
    assert [line["iteration"] for line in lines(tmp_path / "run")] == [0] * 20


def test_the_file_is_bounded_and_the_count_is_told_at_powers_of_ten(tmp_path, monkeypatch):
    one = Failure(message="m", traceback="t" * 5000, response="\ud800")
    found = Failures(verifier="v", checked=4, raised=1, kept=[one])
    append_failures(tmp_path, [found], set="a")
    (line,) = lines(tmp_path)
    assert len(line["traceback"]) == 4000 and line["set"] == "a" and line["response"] == "\ud800"
    monkeypatch.setattr(dsrl.runs.failure_file, "LARGEST", 1)
    append_failures(tmp_path, [found])
    assert len(lines(tmp_path)) == 1
    console = Console(file=StringIO(), width=300)
    callback = VerifierFailures(tmp_path, console)
    for _ in range(120):
        callback.add([[found], [found]], iteration=0)
    told = [line.partition(" so far")[0] for line in console.file.getvalue().splitlines()]
    assert told == ["v raised on 10 of 40 responses", "v raised on 100 of 400 responses"]
