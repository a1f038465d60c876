"""Ranks that sample with vLLM, each with an engine of its own or all with one, learn as one process does."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
from run_files import lines_apart, metrics, weights_apart

RUN = (
    "sampler=vllm",
    "sampler.dtype=float32",
    "sampler.enforce_eager=true",
    "sampler.kv_cache_gib=0.5",
    "objective=nsr_prerl",
    "+phase2=grpo",
    "phase2.start=1",
    "iterations=2",
)
RANKS = {
    "an engine each": ("trainer=ddp", "trainer.devices=2"),
    "one engine": ("trainer=fsdp", "trainer.devices=2", "sampler.tensor_parallel_size=2"),
}


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vllm")
@pytest.mark.parametrize("ranks", RANKS)
def test_two_ranks_sample_and_learn_as_one_process(ranks, train_once):
    run = train_once(f"engines {ranks}", *RUN, *RANKS[ranks])
    alone = train_once(
        "engine alone", *RUN, before=("taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), sys.executable)
    )  # one thread
    assert weights_apart(alone, run) < 1e-4
    assert lines_apart(*([_without_rounding(line) for line in metrics(each)] for each in (alone, run))) < 1e-4
    assert all(0 < line["mismatch/mean"] < 1e-4 for line in metrics(run) if line["phase"] == 2)


def _without_rounding(line):
    return {key: value for key, value in line.items() if not key.startswith("mismatch/")}
