"""A whole run in which the verifier does not apply to some responses, and its replay."""

import json

import pandas
import pytest
import torch

import dsrl
from dsrl import compose

FUNCTION = '''
def sometimes(prompts, completions, answer, **kwargs):
    """None where the completion is of an odd length, else whether it ends with the answer."""
    return [None if len(text) % 2 else float(text.endswith(str(truth))) for text, truth in zip(completions, answer)]


def never(prompts, completions, **kwargs):
    return [None] * len(completions)
'''
SMALL = (
    *("prompts_per_iteration=4", "responses_per_prompt=4", "data.train_size=200", "data.val_size=4", "logger=none"),
    *("validation.k=2", "iterations=2", "validation.every=2", "checkpoint.every=0", "report=false"),
)


@pytest.fixture
def words(tmp_path):
    (tmp_path / "mine.py").write_text(FUNCTION)

    def words(name, folder, *overrides):
        verifier = ("verifier=function", f"verifier.path={tmp_path / 'mine.py'}:{name}", "verifier.workers=1")
        return [*SMALL, *verifier, f"run_dir={tmp_path / folder}", *overrides]

    return words


def lines(run, name="metrics.jsonl"):
    return [json.loads(line) for line in (run.folder / name).read_text().splitlines()]


def kept_of(found):
    left_out = ("time/", "throughput/", "memory/")
    return [{key: line[key] for key in line if not key.startswith(left_out)} for line in found if "loss" in line]


def test_responses_without_a_reward_are_in_no_number_and_in_no_update(words):
    run = dsrl.fit(compose(words("sometimes", "run", "objective=nsr", "logged_samples=16", "record=all")))
    samples = lines(run, "samples.jsonl")
    training = [line for line in samples if "advantage" in line]
    missing = [line for line in training if line["reward"] is None]
    assert 0 < len(missing) < len(training)
    assert all(line["advantage"] == 0 and not line["kept"] and len(line["response"]) % 2 for line in missing)
    judged = [line["reward"] for line in training if line["reward"] is not None and line["iteration"] == 0]
    first = lines(run)[0] if "loss" in lines(run)[0] else lines(run)[1]
    assert first["reward/mean"] == pytest.approx(sum(judged) / len(judged))
    assert first["reward/applicable"] == len(judged) / 16

    recorded = pandas.read_parquet(run.folder / "rollouts")
    assert recorded.reward.isna().sum() == len(missing) and not recorded.kept[recorded.reward.isna()].any()
    again = ("sampler=replay", f"sampler.run={run.folder}", "objective=nsr", "logged_samples=16")
    replayed = dsrl.fit(compose(words("sometimes", "again", *again)))
    assert kept_of(lines(replayed)) == kept_of(lines(run))


def test_an_evaluation_leaves_them_out(words, tmp_path):
    given = [word for word in words("sometimes", "evaluation") if word.startswith(("verifier", "run_dir"))]
    results = dsrl.evaluate(["model=tiny", "data.val=arithmetic", "k=4", "limit=3", *given])["results"]["arithmetic"]
    samples = [json.loads(line) for line in (tmp_path / "evaluation" / "samples.jsonl").read_text().splitlines()]
    groups = [[line["reward"] for line in samples if line["question"] == number] for number in range(3)]
    judged = [[reward for reward in group if reward is not None] for group in groups]
    assert 0 < sum(map(len, judged)) < 12 == len(samples)
    assert results["avg@4"] == pytest.approx(sum(sum(own) / len(own) for own in judged if own) / sum(map(bool, judged)))
    assert ("pass@4" in results) == any(len(own) == 4 for own in judged)


def test_a_run_without_any_reward_takes_no_step(words):
    run = dsrl.fit(compose(words("never", "run", "objective=grpo", "iterations=1", "validation.every=1")))
    (line,) = [line for line in lines(run) if "loss" in line]
    assert line["reward/mean"] is None and line["reward/applicable"] == line["update/steps"] == line["loss"] == 0
    (validated, *_) = [line for line in lines(run) if "val/arithmetic/avg@2" in line]
    assert validated["val/arithmetic/avg@2"] is None and validated["val/arithmetic/questions"] == 0
    assert torch.isfinite(next(run.module.policy.parameters())).all()
