"""One process, and two ranks under each strategy, do the same to the same rollouts."""

from __future__ import annotations

import json

import pytest
import torch
from run_files import apart, metrics, samples, weights
from transformers import AutoModelForCausalLM

from dsrl.config.schema import ModelConfig
from dsrl.models.loading import load_model
from dsrl.runs.hf_folder import export

TWO_PHASES = (
    "sampler=written",
    "objective=nsr_prerl",
    "+phase2=grpo",
    "phase2.start=2",
    "objective.token_weight=known",
    "phase2.objective.token_weight={name: entropy, share: 0.5}",
    "phase2.objective.kl={coefficient: 0.1, estimator: k3}",
    "iterations=4",
    "optimizer.lr=2e-4",
    "update.micro_batch_tokens=150",  # several micro-batches, not equally many on both ranks
    "dynamic_sampling=2",
    "curriculum.always_right=0",
    "curriculum.always_wrong=0.5",
    "data.train_size=20",
    "data.digits=2",
)
STRATEGIES = {name: (f"trainer={name}", "trainer.devices=2") for name in ("ddp", "fsdp", "fsdp1")}


@pytest.fixture(scope="module")
def alone(train_once):
    return train_once("alone", *TWO_PHASES)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_are_as_one_process(strategy, alone, train_once):
    run = train_once(strategy, *TWO_PHASES, *STRATEGIES[strategy])
    assert [line["phase"] for line in metrics(run)] == [1, 1, 2, 2]
    assert metrics(run)[-1]["kl/mean"] > 0
    shares = [line["kept/tokens"] for line in metrics(run)]
    assert shares == pytest.approx([line["kept/tokens"] for line in metrics(alone)])
    assert all(0.1 < share < 1 for share in shares) and shares[-1] == pytest.approx(0.5, abs=0.01)
    assert {line["iteration"] for line in samples(run)} == set(range(4))
    assert apart(alone, run) < 1e-4
    base = load_model(ModelConfig(name="tiny")).state_dict()
    assert max(float((tensor - base[name]).abs().max()) for name, tensor in weights(run).items()) > 5e-4


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_logged_tokens_are_scored_alike(strategy, alone, train_once):
    """Rank 0 logs, and every rank takes part in the passes."""
    run = train_once(strategy, *TWO_PHASES, *STRATEGIES[strategy])
    one, other = (
        {(line["iteration"], line["question"], line["response_number"]): line for line in samples(folder)}
        for folder in (alone, run)
    )
    common = one.keys() & other.keys()
    assert {iteration for iteration, *_ in common} == set(range(4))
    for key in common:
        assert one[key]["tokens"] == other[key]["tokens"] and one[key]["kept"] == other[key]["kept"]
        for kind in ("logprobs", "entropies"):
            for space in ("conditional", "marginal"):
                assert one[key][kind][space] == pytest.approx(other[key][kind][space], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_its_export_is_its_policy(strategy, train_once, tmp_path):
    run = train_once(strategy, *TWO_PHASES, *STRATEGIES[strategy])
    export(run / "checkpoints" / "iteration3.ckpt", tmp_path / "out")
    ids = torch.arange(3, 30).view(1, -1)
    with torch.no_grad():
        logits = [AutoModelForCausalLM.from_pretrained(folder)(ids).logits for folder in (tmp_path / "out", run / "hf")]
    assert torch.equal(*logits)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_questions_are_replaced_and_passed_over_alike(strategy, alone, train_once):
    """A rank that has nothing to replace waits for the others; what one has seen, all know."""
    run = train_once(strategy, *TWO_PHASES, *STRATEGIES[strategy])
    for key in ("dynamic_sampling/prompts", "curriculum/passed_over", "curriculum/always_wrong"):
        assert sum(found[key] for found in metrics(alone)) > 0
        assert [found[key] for found in metrics(alone)] == [found[key] for found in metrics(run)]


@pytest.mark.slow
def test_ranks_whose_clocks_differ_decide_alike(train, tmp_path):
    """Ranks that decide each for itself, and not alike, wait for each other until the time limit."""
    best = ("checkpoint.best=time/sample", "checkpoint.best_mode=min", "checkpoint.every=0", "iterations=8")
    train(*best, *STRATEGIES["ddp"], f"run_dir={tmp_path / 'run'}")
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    times = [line["time/sample"] for line in lines]
    names = [path.name for path in (tmp_path / "run" / "checkpoints").glob("best-*")]
    assert names == [f"best-iteration{times.index(min(times))}.ckpt"]
