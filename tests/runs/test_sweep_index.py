"""The index of a sweep says of each job what it was asked for, how far it is, and what came of it."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from dsrl.errors import DSRLError
from dsrl.runs.sweep import Sweep
from dsrl.runs.sweep_index import SweepIndex, own_words

LINES = [["seed=0", "+phase2=grpo", "objective='{name: nsr}'"], ["seed=1", "+phase2=grpo", "objective='{name: nsr}'"]]


def write_run(folder: Path, done: int, iterations: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(f"iterations: {iterations}\n")
    rows = [{"iteration": -1, "iterations_done": 0, "val/a/avg@4": 0.25, "val/a/pass@1": 0.2, "val/a/pass@4": 0.5}]
    for iteration in range(done):
        rows.append({"iteration": iteration, "reward/mean": 0.5 + iteration / 4})
    rows.append({"iteration": done - 1, "iterations_done": done, "val/a/avg@4": 0.75, "val/a/pass@4": 0.875})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def written(folder: Path) -> list[dict]:
    return json.loads((folder / "index.json").read_text())["jobs"]


def test_the_words_that_not_all_jobs_have_are_told():
    assert own_words(LINES) == [{"seed": "0"}, {"seed": "1"}]
    assert own_words(LINES[:1]) == [{"seed": "0", "phase2": "grpo", "objective": "{name: nsr}"}]


def test_it_follows_the_jobs(tmp_path):
    sweep, states = Sweep(lines=LINES), []
    with sweep.job(0, LINES[0], tmp_path / "0"):
        states.append([job["state"] for job in written(tmp_path)])
        write_run(tmp_path / "0", done=2)
    with sweep.job(1, LINES[1], tmp_path / "1"):
        states.append([job["state"] for job in written(tmp_path)])
        write_run(tmp_path / "1", done=1)
        raise DSRLError("no room\nat all")
    first, second = written(tmp_path)
    assert states == [["running", "waiting"], ["finished", "running"]]
    assert (first["state"], first["iterations_done"], first["iterations"], first["reward"]) == ("finished", 2, 2, 0.75)
    assert first["validation"] == {
        "val/a/avg@4": {"first": 0.25, "best": 0.75, "last": 0.75},
        "val/a/pass@4": {"first": 0.5, "best": 0.875, "last": 0.875},
    }
    assert (second["state"], second["reason"], second["overrides"]) == ("failed", "no room", {"seed": "1"})
    assert second["folder"] == str(tmp_path / "1") and second["seconds"] > 0
    with (tmp_path / "index.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [(row["job"], row["seed"], row["state"], row["val/a/avg@4 last"]) for row in rows] == [
        ("0", "0", "finished", "0.75"),
        ("1", "1", "failed", "0.75"),
    ]


def test_the_table_has_what_was_swept_and_what_came_of_it(tmp_path):
    write_run(tmp_path / "0", done=2)
    write_run(tmp_path / "1", done=1)
    index = SweepIndex(tmp_path, LINES)
    index.end(1, reason=None, seconds=61.0)
    console = Console(file=StringIO(), width=160)
    console.print(index.table())
    told = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.file.getvalue().splitlines()]
    assert ["0", "0", "finished", "2/2", "0.750", "0.250 → 0.750", ""] in told
    assert ["1", "1", "stopped", "1/2", "0.500", "0.250 → 0.750", "0:01:01"] in told


def test_gone_on_with_it_knows_what_was_done_and_adds_up_the_time(tmp_path):
    write_run(tmp_path / "0", done=2)
    first = SweepIndex(tmp_path, LINES)
    first.begin(1)
    first.end(1, reason="killed", seconds=10.0)
    again = SweepIndex(tmp_path, LINES)
    assert [entry.state for entry in again.entries] == ["finished", "waiting"]
    write_run(tmp_path / "1", done=2)
    again.end(1, reason=None, seconds=5.0)
    assert [(job["state"], job["seconds"], job["reason"]) for job in written(tmp_path)] == [
        ("finished", 0.0, ""),
        ("finished", 15.0, ""),
    ]
    (tmp_path / "index.json").write_text("{")
    assert SweepIndex(tmp_path, LINES).entries[1].seconds == 0.0


def test_an_index_that_cannot_be_written_ends_no_job(tmp_path, capsys, monkeypatch):
    (tmp_path / "sweep").write_text("a file in the way")
    ran = []
    with Sweep(lines=LINES).job(0, LINES[0], tmp_path / "sweep" / "0"):
        ran.append(0)
    assert ran == [0] and f"error: {tmp_path}/sweep/index.json: cannot be written" in capsys.readouterr().err


def test_an_interrupted_job_is_stopped(tmp_path):
    with pytest.raises(KeyboardInterrupt), Sweep(lines=LINES).job(0, LINES[0], tmp_path / "0"):
        write_run(tmp_path / "0", done=1)
        raise KeyboardInterrupt
    assert written(tmp_path)[0]["state"] == "stopped"
