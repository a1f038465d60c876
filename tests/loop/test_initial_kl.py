"""The KL to the policy that a run began with, in runs: which copy it needs, and that measuring it changes nothing."""

import json

import lightning as L
import pytest
import torch

from dsrl import compose
from dsrl.errors import ConfigError

KL = "phase2.objective.kl.coefficient=0.1"
TWO_PHASES = ("objective=nsr_prerl", "+phase2=grpo", "phase2.start=1")


@pytest.mark.parametrize(
    ("overrides", "copies"),
    [
        ([], 0),
        (["initial_kl.every=1"], 1),
        ([*TWO_PHASES, KL], 1),
        ([*TWO_PHASES, KL, "initial_kl.every=1"], 2),  # the handoff copies the policy to the reference
        ([*TWO_PHASES, KL, "initial_kl.every=1", "phase2.sync_reference=false"], 1),
        (["objective.kl.coefficient=0.1", "initial_kl.every=1"], 1),
    ],
)
def test_a_reference_that_stays_the_initial_policy_is_its_only_copy(overrides, copies):
    assert compose(overrides).frozen_copies == copies


def test_a_negative_interval_is_refused():
    with pytest.raises(ConfigError, match=r"initial_kl\.every=-1: must be at least 0"):
        compose(["initial_kl.every=-1"])


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_begins_at_zero_grows_and_goes_on_after_a_resume_from_the_same_policy(fit, tmp_path):
    settings = ("optimizer.lr=1e-4", "validation.every=0", "checkpoint.every=1", "report=false")
    measured = ("initial_kl.every=2", *settings)
    whole = fit(*measured, "iterations=3", f"run_dir={tmp_path}/whole")
    found = [line.get("kl/initial") for line in lines(tmp_path / "whole")]
    assert found[0] == 0.0 and found[1] is None and found[2] > 0
    fit(*measured, "iterations=1", f"run_dir={tmp_path}/parts")
    fit(*measured, "iterations=3", f"run_dir={tmp_path}/parts", "resume=last")
    assert [line.get("kl/initial") for line in lines(tmp_path / "parts")] == found
    plain = fit(*settings, "iterations=3", f"run_dir={tmp_path}/plain")
    for one, other in zip(whole.policy.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_reference_serves_where_it_is_the_initial_policy(fit):
    module = fit(
        *TWO_PHASES, KL, "phase2.sync_reference=false", "initial_kl.every=1", "iterations=2", "validation.every=0"
    )
    assert module.initial is None and module.scorer.initial is module.reference
    assert module.metrics["kl/initial"] > 0


@pytest.mark.parametrize("sharded", ["false", "true"])
def test_one_copy_that_was_both_becomes_two_with_a_handoff(fit, tmp_path, sharded):
    """The saved reference was the initial policy. The weights of the model's files are others here."""
    kept = (f"checkpoint.sharded={sharded}", "checkpoint.every=1", "validation.every=0", "initial_kl.every=1")
    asked = ("objective=grpo", "objective.kl.coefficient=0.1", "iterations=2", *kept)
    before = fit(*asked, f"run_dir={tmp_path}/before", callbacks=(Moved(),))
    path = tmp_path / "before/checkpoints/iteration1.ckpt"
    added = (f"resume={path}", "+phase2=grpo", "phase2.start=2", KL, "iterations=3", f"run_dir={tmp_path}/on")
    on = fit(*asked, *added)
    assert before.initial is None and on.initial is not None and on.initial is not on.reference
    for was, is_ in zip(before.reference.parameters(), on.initial.parameters(), strict=True):
        assert torch.equal(was, is_)
    assert any(not torch.equal(*pair) for pair in zip(on.initial.parameters(), on.reference.parameters(), strict=True))


class Moved(L.Callback):
    """Moves the frozen copy away from what is loaded, so that it is known again."""

    def on_train_start(self, trainer, pl_module):
        with torch.no_grad():
            for parameter in pl_module.reference.parameters():
                parameter.add_(0.001)
