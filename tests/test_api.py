"""The front door for Python users."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dsrl
from dsrl import compose, evaluate, fit
from dsrl.errors import ConfigError
from dsrl.loop.module import DSRLModule

TINY_RUN = (
    "iterations=2",
    "prompts_per_iteration=2",
    "responses_per_prompt=2",
    "data.train_size=50",
    "data.val_size=2",
    "validation.k=2",
    "logger=none",
)


def test_every_public_name_is_there():
    assert sorted(dsrl.__all__) == sorted(set(dsrl.__all__))
    for name in dsrl.__all__:
        assert getattr(dsrl, name) is not None
    assert set(dsrl.__all__) <= set(dir(dsrl))
    with pytest.raises(AttributeError, match="module 'dsrl' has no attribute 'fits'"):
        dsrl.fits  # noqa: B018


def test_importing_dsrl_loads_no_torch():
    code = "import sys, dsrl; assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_comes_back_with_its_numbers(tmp_path):
    run = fit(compose([*TINY_RUN, "objective=nsr_prerl", "+phase2=grpo", "phase2.start=1", f"run_dir={tmp_path}/run"]))
    assert run.folder == tmp_path / "run"
    assert [(row["iteration"], row["objective"]) for row in run.metrics] == [(0, "nsr_prerl"), (1, "grpo")]
    assert [(row["iteration"], row["iterations_done"]) for row in run.validations] == [(-1, 0), (1, 2)]
    assert all("val/arithmetic/avg@2" in row for row in run.validations)
    assert {row["iteration"] for row in run.samples} == {0, 1}
    assert {(row["iteration"], row["set"]) for row in run.validation_samples} == {(-1, "arithmetic"), (1, "arithmetic")}
    assert isinstance(run.module, DSRLModule)
    ids = run.policy.model.generate(max_new_tokens=3, do_sample=False)
    assert ids.shape[1] <= 4


def test_a_second_run_does_not_wipe_the_first(tmp_path):
    config = compose([*TINY_RUN, "validation.every=0", f"run_dir={tmp_path}/run"])
    first = fit(config).metrics
    with pytest.raises(ConfigError, match="holds a run already"):
        fit(config)
    with pytest.raises(ConfigError, match="holds a run already"):
        fit(compose([*TINY_RUN, f"run_dir={tmp_path}/run"]))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(first) == 2


def test_an_evaluation_from_python(tmp_path, capsys):
    words = ["model=tiny", "k=2", "limit=2", f"run_dir={tmp_path}/eval"]
    found = evaluate(words)
    assert set(found["results"]) == {"arithmetic"}
    assert (tmp_path / "eval" / "results.json").is_file()
    import dsrl.evaluate as command  # the command has the function's name

    with pytest.raises(ConfigError, match=r"run_dir=.*eval"):
        command(words)
    assert dsrl.evaluate is command
