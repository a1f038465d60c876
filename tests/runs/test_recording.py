"""Record, then replay: the same losses for the same objective, and the same rollouts for another."""

import json
import shutil

import pandas
import pytest
import torch

import dsrl
from dsrl import compose
from dsrl.errors import ConfigError, DSRLError

SMALL = (
    "prompts_per_iteration=6",
    "responses_per_prompt=4",
    "data.train_size=200",
    "data.val_size=6",
    "validation.k=2",
    "logger=none",
)
BASE = ("iterations=3", "validation.every=3", "checkpoint.every=1", "report=false")
NOT_OF_TRAINING = ("time/", "memory/", "throughput/")


def lines(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if not key.startswith(NOT_OF_TRAINING)} for line in found]


def weights(module):
    return {name: tensor.clone() for name, tensor in module.policy.named_tensors()}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A grpo run with its rollouts: folder and module."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    run = dsrl.fit(compose([*SMALL, *BASE, "objective=grpo", "record=all", f"run_dir={folder}"]))
    return folder, run.module


@pytest.fixture
def replay(fit, tmp_path):
    def replay(name, run, *overrides, **rest):
        given = ("sampler=replay", f"sampler.run={run}", f"run_dir={tmp_path / name}")
        return tmp_path / name, fit(*BASE, *given, *overrides, **rest)

    return replay


def test_grpo_on_recorded_rollouts_of_grpo_is_the_run_again_to_the_last_digit(recorded, replay):
    folder, module = recorded
    again, replayed = replay("again", folder, "objective=grpo")
    assert lines(again) == lines(folder)
    other = weights(replayed)
    assert all(torch.equal(tensor, other[name]) for name, tensor in weights(module).items())


def test_another_objective_learns_from_the_same_rollouts_and_resumes_exactly(recorded, replay, killed_in):
    folder, _ = recorded
    whole, module = replay("whole", folder, "objective=nsr_prerl", "mismatch.every=1")
    then, now = lines(folder), lines(whole)
    for key in ("reward/mean", "response/length_mean", "group/all_wrong"):
        assert [line[key] for line in now if key in line] == [line[key] for line in then if key in line]
    assert [line["loss"] for line in now[1:4]] != [line["loss"] for line in then[1:4]]
    drift = [line["mismatch/mean"] for line in now[1:4]]
    assert drift[0] < 1e-5 < 1e-4 < drift[1] < drift[2]  # the policy leaves the one that wrote the responses

    with pytest.raises(SystemExit):
        replay("killed", folder, "objective=nsr_prerl", "mismatch.every=1", callbacks=(killed_in(1),))
    killed, resumed = replay("killed", folder, "objective=nsr_prerl", "mismatch.every=1", "resume=last")
    assert lines(killed) == now
    other = weights(resumed)
    assert all(torch.equal(tensor, other[name]) for name, tensor in weights(module).items())


def test_rewards_may_be_computed_anew(recorded, replay):
    folder, _ = recorded
    given = ("objective=grpo", "sampler.rewards=verifier", "iterations=1", "validation.every=0")
    _, module = replay("anew", folder, *given)
    assert module.metrics["reward/mean"] == lines(folder)[1]["reward/mean"] > 0
    _, module = replay("none", folder, *given, "verifier.marker=x")
    assert module.metrics["reward/mean"] == 0


def test_replacements_of_dynamic_sampling_are_what_is_recorded(fit, replay, tmp_path):
    folder = tmp_path / "dynamic"
    fit(*BASE, "objective=grpo", "dynamic_sampling=2", "record=all", f"run_dir={folder}")
    then = lines(folder)
    assert any(line.get("dynamic_sampling/prompts") for line in then)
    again, _ = replay("again", folder, "objective=grpo")
    for key in ("loss", "grad_norm", "reward/mean"):
        assert [line[key] for line in lines(again)[1:4]] == [line[key] for line in then[1:4]]


def test_a_killed_run_records_each_iteration_once(fit, tmp_path, killed_in):
    folder = tmp_path / "run"
    given = (*BASE, "objective=grpo", "record=all", "validation.every=0", f"run_dir={folder}")
    with pytest.raises(SystemExit):
        fit(*given, callbacks=(killed_in(1),))
    before = pandas.read_parquet(folder / "rollouts")
    assert set(before.iteration) <= {0, 1}
    fit(*given, "resume=last")
    table = pandas.read_parquet(folder / "rollouts")
    assert table.groupby("iteration").size().tolist() == [24, 24, 24]
    assert table[table.iteration == 0].equals(before[before.iteration == 0])
    rewards = [line["reward/mean"] for line in lines(folder)]
    assert table.groupby("iteration").reward.mean().tolist() == pytest.approx(rewards)


REFUSED = {
    "sampler.run=nowhere": "there are no recorded rollouts; a run writes them with record=all",
    "iterations=5": "iterations=5: .* has the rollouts of iterations 0 to 2, and not of 3, 4",
    "responses_per_prompt=2": "responses_per_prompt=2: .* was recorded with 4; give the same",
    "data.digits=3": "data=.*'digits': 3.* was recorded with .*'digits': 4",
    "verifier.marker=x": "sampler.rewards=verifier, which computes rewards anew",
    "sampler.rewards=new": "sampler.rewards=new: allowed are recorded, verifier",
    "sampler.validation={name: replay, run: x}": "validations need responses of the policy itself",
    "record=all": "what is replayed is recorded already",
    "dynamic_sampling=1": "recorded rollouts cannot be replaced by others",
    "curriculum.always_right=0.5": "curriculum.always_right=0.5: the questions are those that were recorded",
    "curriculum.always_wrong=0": "curriculum.always_wrong=0.*give curriculum.always_wrong=1",
}


def test_what_cannot_be_replayed_is_refused_before_anything_is_loaded(recorded, tmp_path):
    folder = tmp_path / "recorded"
    shutil.copytree(recorded[0], folder)
    given = (*SMALL, *BASE, "objective=grpo", "sampler=replay", f"sampler.run={folder}", f"run_dir={tmp_path / 'x'}")
    compose(given)
    compose([*given, "data.val_size=9"])  # validations may differ
    for override, message in REFUSED.items():
        key = override.partition("=")[0]
        with pytest.raises(ConfigError, match=message):
            compose([*(text for text in given if not text.startswith(f"{key}=")), override])
    (folder / "rollouts" / "iteration000000-rank0.parquet").write_bytes(b"cut")
    with pytest.raises(ConfigError, match=r"iteration000000-rank0.parquet: not a readable record"):
        compose(given)
    (folder / "rollouts" / "iteration000000-rank0.parquet").unlink()
    with pytest.raises(ConfigError, match="its first recorded iteration is 1; go on from a checkpoint"):
        compose(given)


def test_responses_that_were_drawn_in_another_way_are_refused(recorded, replay):
    with pytest.raises(DSRLError, match=r"iteration 0 was recorded with temperature 1.0, now 0.7"):
        replay("colder", recorded[0], "objective=grpo", "sampling.temperature=0.7", "validation.every=0")


def test_another_tokenizer_is_refused(recorded, replay, monkeypatch):
    monkeypatch.setattr("dsrl.data.encoding.PromptEncoder.decode", lambda self, rows, ends=(): ["?" for _ in rows])
    with pytest.raises(ConfigError, match="recorded with another tokenizer"):
        replay("other", recorded[0], "objective=grpo", "validation.every=0")
