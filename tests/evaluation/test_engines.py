"""Evaluations of what other processes have made: a checkpoint of two ranks, answers of a vLLM engine."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsrl.evaluation.samples import read_samples

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_sharded_checkpoint_is_the_run_that_wrote_it(evaluated, tmp_path):
    """Of FSDP2 over two ranks: its samples are those of hf/, and its numbers those of the run's last validation."""
    run = tmp_path / "run"
    ranks = ("trainer=fsdp", "trainer.devices=2", "trainer.accelerator=cpu", "checkpoint.sharded=true")
    sizes = ("iterations=1", "prompts_per_iteration=4", "responses_per_prompt=2", "validation.k=2", "data.val_size=6")
    rest = ("optimizer.lr=1e-3", "objective.advantage=signed", "logger=none")
    subprocess.run(
        [sys.executable, "train.py", "objective=grpo", *ranks, *sizes, *rest, f"run_dir={run}"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=900,
    )
    checkpoint = run / "checkpoints" / "iteration0.ckpt"
    assert len(list(checkpoint.glob("shard-*.safetensors"))) == 2
    folder, results, _ = evaluated(f"model={checkpoint}", "k=2", folder="of_checkpoint")
    other, _, _ = evaluated(f"model={run}", "k=2", folder="of_run")
    assert (folder / "samples.jsonl").read_bytes() == (other / "samples.jsonl").read_bytes()
    untrained, _, _ = evaluated("k=2", "data=arithmetic", "data.val_size=6", folder="untrained")
    assert (folder / "samples.jsonl").read_bytes() != (untrained / "samples.jsonl").read_bytes()
    *_, last = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    numbers = results["results"]["arithmetic"]
    for key in ("avg@2", "pass@1", "pass@2"):
        assert numbers[key] == pytest.approx(last[f"val/arithmetic/{key}"])


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vllm")
def test_the_engine_answers_as_the_model_does(evaluated, one_core):
    """Greedy and in float32, letter for letter."""
    greedy = ("k=1", "limit=6", "sampling.max_new_tokens=48", "sampling.temperature=0")
    engine = ("sampler=vllm", "sampler.dtype=float32", "sampler.enforce_eager=true", "sampler.kv_cache_gib=0.5")
    folder, results, _ = evaluated(*greedy, *engine, folder="engine")
    other, expected, _ = evaluated(*greedy, folder="model")
    assert read_samples(folder) == read_samples(other)
    assert len({sample["response"] for sample in read_samples(folder)}) == 6
    assert results["results"] == expected["results"]
