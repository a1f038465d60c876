"""The command line as a user meets it: exit codes, what is printed, sweeps, the wheel."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def train(*arguments):
    return subprocess.run(
        [sys.executable, "train.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_a_bad_name_ends_with_one_message():
    done = train("objective=grp")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: objective=grp: no such objective; there are ")
    assert len(done.stderr.splitlines()) == 1


def test_cfg_job_prints_and_loads_nothing(tmp_path):
    done = train("--cfg", "job", f"run_dir={tmp_path}/run", "model=hf", "model.name=org/model")
    assert done.returncode == 0, done.stderr
    assert "name: org/model" in done.stdout
    assert not (tmp_path / "run").exists()


def test_a_sweep_writes_each_run_under_its_own_folder(tmp_path):
    line = "-m objective=grpo,nsr_prerl iterations=1 prompts_per_iteration=2 responses_per_prompt=2"
    done = train(*line.split(), "sampling.max_new_tokens=8", "validation.every=0", f"run_dir={tmp_path}/sweep")
    assert done.returncode == 0, done.stderr
    for job, objective in enumerate(["grpo", "nsr_prerl"]):
        (row,) = (tmp_path / "sweep" / str(job) / "metrics.jsonl").read_text().splitlines()
        assert json.loads(row)["objective"] == objective


@pytest.mark.slow
def test_the_wheel_holds_the_configs_and_the_console_script(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    if done.returncode and "No matching distribution found for hatchling" in done.stdout + done.stderr:
        pytest.skip("build isolation cannot download hatchling")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert "dsrl/configs/train.yaml" in wheel.namelist()
        scripts = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "dsrl-train = dsrl.train:main" in wheel.read(scripts).decode()
