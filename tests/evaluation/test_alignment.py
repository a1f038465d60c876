"""`python -m dsrl.align`, small, on the embedded model."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from dsrl.align import run
from dsrl.errors import ConfigError
from dsrl.evaluation.align_config import AlignConfig

SMALL = ("limit=8", "k=3", "batches=2", "micro_batch_tokens=2000")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What is printed as JSON, and the file."""
    path = tmp_path_factory.mktemp("align") / "found.json"
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text: printed.append(text))
        run([*SMALL, "json=true", f"out={path}"], Console(quiet=True))
    return json.loads("\n".join(printed)), json.loads(path.read_text())


def test_the_json_contract(measured):
    found, written = measured
    assert found == written
    assert found["model"] == "tiny" and (found["questions"], found["responses"], found["samples"]) == (8, 24, 24)
    assert 0.9 < found["share_nonnegative"] <= 1
    low, high = found["cosine_interval"]
    assert low < found["cosine_mean"] < high
    assert set(found["by_group"]) >= {"embeddings", "block0.attention", "block2.mlp", "norms"}
    assert all(0 <= own["share_nonnegative"] <= 1 and own["cosine_mean"] > 0 for own in found["by_group"].values())
    names = {"grpo", "nsr", "psr", "prerl", "nsr_prerl", "psr_prerl", "common", "reward", "objective"}
    assert set(found["gain"]) == names and all(-1 <= gain <= 1 for gain in found["gain"].values())
    assert set(found["gain_half_width"]) == names  # two batches
    assert found["gain"]["objective"] == found["gain"]["nsr_prerl"]
    assert found["common"]["nsr_prerl"] < -0.5 and found["covered"] == 1.0
    assert found["right"]["samples"] + found["wrong"]["samples"] == 24
    assert found["logits"]["inner_min"] > -1e-6
    assert 0 < found["logits"]["known"]["mean"] < 1
    assert set(found["seconds"]) == {"sample", "measure", "level0", "level1", "level2"}
    assert found["config"]["limit"] == 8


def test_tables_are_printed():
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    run(["limit=2", "k=2", "levels=[0,2]", "groups=kinds"], console)
    text = console.export_text()
    for words in ("2 questions, 4 responses", "by response", "attention", "share that P(y) can know"):
        assert words in text
    assert "by objective" not in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["levels=[3]"], r"levels=\[3\]: a step is taken in a run alone"),
        (["k=1"], "k=1: must be at least 2"),
        (["limit=3", "batches=2"], "limit=3: must be at least 2 for each of batches=2"),
        (["limt=3"], "unknown key 'limt'"),
        (["sampling.temperature=0"], "training samples need a temperature above 0"),
        (["model=nowhere/at/all"], "model=nowhere/at/all: no such run"),
        (["objective=mine"], "objective=mine: no such objective"),
        (["sampler=replay", "sampler.run=runs/x"], "responses of the model itself are needed"),
        (["data=questions", "data.train=nowhere.jsonl"], "no such file"),
    ],
)
def test_what_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        AlignConfig.of(overrides)


def test_a_run_is_measured_on_what_it_trained_on(fit, tmp_path):
    run_dir = tmp_path / "trained"
    fit("iterations=1", "validation.every=0", "data.digits=2", "sampling.temperature=0.9", f"run_dir={run_dir}")
    checkpoint = run_dir / "checkpoints" / "iteration0.ckpt"
    config = AlignConfig.of([f"model={checkpoint}", "limit=2"])
    assert config.checkpoint == str(checkpoint) and config.sampling.temperature == 0.9
    assert config.data.digits == 2 and config.data.train_size == 200
    assert AlignConfig.of([f"model={run_dir}"]).model.name == str(run_dir / "hf")
