"""A third-party package beside dsrl, found by entry point or by DSRL_PLUGINS."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def train(*arguments, **environment):
    command = [sys.executable, "train.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=120)


def test_an_entry_point_runs_in_both_phases(tmp_path):
    sizes = "iterations=2 phase2.start=1 prompts_per_iteration=2 responses_per_prompt=2 sampling.max_new_tokens=16"
    line = f"objective=mine +phase2=mine objective.keep=negative validation.every=0 {sizes}"
    done = train(*line.split(), f"run_dir={tmp_path}/run", PYTHONPATH=str(HERE))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["phase"], line["objective"]) for line in lines] == [(1, "mine"), (2, "mine")]


def test_a_module_of_dsrl_plugins_is_listed_by_help(tmp_path):
    shutil.copytree(HERE / "mine_plugin", tmp_path / "mine_plugin")  # without its entry point
    done = train("--help", PYTHONPATH=str(tmp_path), DSRL_PLUGINS="mine_plugin")
    assert done.returncode == 0, done.stderr
    listed = next(line for line in done.stdout.splitlines() if line.strip().startswith("objective, phase2"))
    assert "mine" in listed.replace(",", "").split()
