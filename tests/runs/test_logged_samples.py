"""samples.jsonl: what is said of a response, and that saying it changes nothing."""

import json

import pytest
import torch

OF_FIRST_TOKENS = ("tokens", "logprobs", "entropies", "changes", "pulls", "clipped")


def lines(run, name):
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def small():
    return ("iterations=2", "validation.every=0", "optimizer.lr=1e-3")


def test_a_group_is_logged_side_by_side_with_what_became_of_it(fit, tmp_path, small):
    module = fit("objective=nsr_prerl", *small, "logged_samples=8")
    found = [line for line in lines(tmp_path / "run", "samples.jsonl") if line["iteration"] == 1]
    assert [line["response_number"] for line in found] == [0, 1, 2, 3, 0, 1, 2, 3]
    groups = [{line["question"] for line in found[first : first + 4]} for first in (0, 4)]
    assert all(len(group) == 1 for group in groups) and groups[0] != groups[1]
    asked = module.trainer.datamodule.batches.rows
    assert all(line["prompt"] == asked[line["question"]].question for line in found)
    for first in (0, 4):
        rewards = torch.tensor([line["reward"] for line in found[first : first + 4]])
        advantages = torch.tensor([line["advantage"] for line in found[first : first + 4]])
        assert torch.allclose(advantages, rewards - rewards.mean())
    assert [line["kept"] for line in found] == [line["advantage"] < 0 for line in found]


def test_tokens_are_scored_in_both_spaces_by_the_policy_that_sampled(fit, tmp_path, small):
    module = fit("objective=nsr_prerl", *small, "iterations=1", "logged_tokens=5")
    batch, found = module.experience.batch, lines(tmp_path / "run", "samples.jsonl")
    assert {len(line["tokens"]) for line in found} <= set(range(1, 6))
    for line in found:
        count = len(line["tokens"])
        assert count == min(5, line["length"])
        sizes = {len(line[kind][space]) for kind in OF_FIRST_TOKENS[1:4] for space in ("conditional", "marginal")}
        assert sizes == {count}
        if line["length"] > 5:
            assert line["response"].startswith("".join(line["tokens"]))
    drawn = next(row for row, text in enumerate(batch.rollouts.texts) if text == found[0]["response"])
    # the sampler's own log-probabilities are those of the policy before the update, given the prompt
    sampled = batch.rollouts.logprobs[drawn, : len(found[0]["tokens"])]
    assert found[0]["logprobs"]["conditional"] == pytest.approx(sampled.tolist(), abs=2e-4)
    assert found[0]["logprobs"]["marginal"] != found[0]["logprobs"]["conditional"]


def test_tokens_say_how_the_update_pulled_on_them_and_what_it_changed(fit, tmp_path, small):
    fit("objective=prerl", *small, "iterations=1", "update.epochs=2", "optimizer.lr=1e-5")
    found = lines(tmp_path / "run", "samples.jsonl")
    pulled = [line for line in found if line["pulls"]]
    assert [line["response_number"] for line in pulled] == [
        line["response_number"] for line in found if line["advantage"]
    ]
    for line in pulled:
        assert line["pulls"].keys() == {"marginal"}
        assert line["clipped"] == {}
        for pull in line["pulls"]["marginal"]:  # a ratio of 1 in the first step, and of little else in the second
            assert pull / line["advantage"] == pytest.approx(2, abs=0.2)
    moved = sum(
        pull * change
        for line in pulled
        for pull, change in zip(line["pulls"]["marginal"], line["changes"]["marginal"], strict=True)
    )
    assert moved > 0  # tokens go where they are pulled
    assert any(change for change in found[0]["changes"]["conditional"])


def test_a_run_that_logs_tokens_is_bit_for_bit_one_that_does_not(fit, tmp_path, small):
    weights, metrics, samples = [], [], []
    for count in (0, 1024):
        module = fit("objective=mixed", *small, f"logged_tokens={count}", f"run_dir={tmp_path}/{count}")
        weights.append(torch.cat([parameter.detach().flatten() for parameter in module.policy.parameters()]))
        volatile = ("time/", "throughput/")
        metrics.append(
            [
                {key: value for key, value in line.items() if not key.startswith(volatile)}
                for line in lines(tmp_path / str(count), "metrics.jsonl")
            ]
        )
        samples.append(
            [
                {key: value for key, value in line.items() if key not in OF_FIRST_TOKENS}
                for line in lines(tmp_path / str(count), "samples.jsonl")
            ]
        )
    assert torch.equal(*weights)
    assert metrics[0] == metrics[1] and samples[0] == samples[1]
