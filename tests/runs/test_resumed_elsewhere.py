"""`resume=PATH` in another folder: what may change, where it is written, and a kill before its first checkpoint."""

import json

import pytest
from omegaconf import OmegaConf

from dsrl.config.compose import compose
from dsrl.errors import ConfigError
from dsrl.reports.reading import read_run
from dsrl.reports.summary import head_of
from dsrl.runs.fit import fit
from dsrl.runs.start import start_of

TINY = (
    "prompts_per_iteration=2",
    "responses_per_prompt=2",
    "sampling.max_new_tokens=8",
    "validation.every=0",
    "checkpoint.every=1",
    "checkpoint.keep=9",
    "data.train_size=20",
    "logger=none",
    "report=false",
)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A run of two phases, the second from iteration 1 on."""
    folder = tmp_path_factory.mktemp("resumed") / "before"
    fit(compose([*TINY, "objective=nsr_prerl", "+phase2=grpo", "phase2.start=1", "iterations=2", f"run_dir={folder}"]))
    return folder


def test_what_changes_is_in_force_and_written_down(before, tmp_path):
    path = before / "checkpoints" / "iteration1.ckpt"
    changed = ["phase2.lr=1e-6", "optimizer.weight_decay=0.5", "optimizer.betas=[0.8,0.9]", "prompts_per_iteration=3"]
    run = fit(compose([f"resume={path}", f"run_dir={tmp_path}/on", "iterations=3", "update.clip_norm=0.1", *changed]))
    (group,) = run.trainer.optimizers[0].param_groups
    assert (group["lr"], group["weight_decay"], tuple(group["betas"])) == (1e-6, 0.5, (0.8, 0.9))
    (line,) = run.metrics
    assert (line["iteration"], line["phase"], line["objective"]) == (2, 2, "grpo")
    assert run.module.config.update.clip_norm == 0.1
    assert line["tokens/sampled"] == 3 * 2 * 8
    assert "\n#   update.clip_norm: 1.0 -> 0.1\n" in (tmp_path / "on" / "config.yaml").read_text()
    (start,) = map(json.loads, (tmp_path / "on" / "starts.jsonl").read_text().splitlines())
    assert start["resumed"] == str(path)
    assert start["changed"]["phase2.lr"] == [1e-4, 1e-6]
    assert sorted(start["changed"]) == sorted(
        ["iterations", "update.clip_norm", *(word.partition("=")[0] for word in changed)]
    )
    told = dict(head_of(read_run(tmp_path / "on")))["Resumed from"]
    assert told.startswith(f"{path}, with ")
    assert "phase2.lr 0.0001 → 1e-06" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["objective=grpo"], "objective.name: 'nsr_prerl' in the checkpoint, 'grpo' now"),
        (["phase2.start=2"], "phase2.start: 1 in the checkpoint, 2 now"),
        (["data.digits=2"], "data.digits: 4 in the checkpoint, 2 now"),
    ],
)
def test_what_may_not(before, words, message, tmp_path):
    path = before / "checkpoints" / "iteration1.ckpt"
    with pytest.raises(ConfigError) as refused:
        start_of(compose([f"resume={path}", f"run_dir={tmp_path}/on", "iterations=3", *words]))
    told = str(refused.value).splitlines()
    assert message in told
    assert told[-1].startswith("only these may change here, and what is below them: ")
    assert "optimizer" in told[-1]


@pytest.mark.parametrize("start", ["3", "{name: drop}"])
@pytest.mark.parametrize("name", ["handoff-phase2-iteration1", "iteration0"])
def test_a_start_that_has_come_stays(before, name, start, tmp_path):
    """Both checkpoints are those before iteration 1, with which phase 2 begins."""
    path = before / "checkpoints" / f"{name}.ckpt"
    with pytest.raises(ConfigError, match=r"phase2.start: 1 in the checkpoint, ") as refused:
        start_of(compose([f"resume={path}", f"run_dir={tmp_path}/on", "iterations=6", f"phase2.start={start}"]))
    free = str(refused.value).splitlines()[-1]
    assert "phase2.objective, phase2.lr," in free and "phase3" in free and "phase2.start" not in free


def test_a_start_in_the_past_is_refused(tmp_path):
    fit(compose([*TINY, "objective=nsr_prerl", "iterations=2", f"run_dir={tmp_path}/before"]))
    path = f"resume={tmp_path}/before/checkpoints/iteration1.ckpt"
    given = [path, f"run_dir={tmp_path}/on", "iterations=6", "+phase2=grpo"]
    message = r"^phase2.start=1: iterations 0 to 1 are done, .* begin with iteration 2 at the earliest"
    with pytest.raises(ConfigError, match=message):
        start_of(compose([*given, "phase2.start=1"]))
    assert start_of(compose([*given, "phase2.start=2"])).config.phases[1].start == 2


def test_a_curriculum_begins_without_verdicts(before, tmp_path):
    path = before / "checkpoints" / "iteration1.ckpt"
    words = [f"resume={path}", "iterations=4", "curriculum.always_right=0.5", "checkpoint.every=1"]
    run = fit(compose([*words, f"run_dir={tmp_path}/on"]))
    assert [line["curriculum/passed_over"] for line in run.metrics][0] == 0


def test_the_same_folder_names_the_way_to_another(before):
    path = before / "checkpoints" / "iteration1.ckpt"
    with pytest.raises(ConfigError) as refused:
        start_of(compose(["resume=last", f"run_dir={before}", "iterations=3", "optimizer.lr=1e-6"]))
    assert str(refused.value).splitlines()[-1] == f"to go on with these, give resume={path} and a new run_dir"


def test_from_a_handoff_later_phases_are_kept(before, tmp_path):
    path = before / "checkpoints" / "handoff-phase2-iteration1.ckpt"
    kept, _ = start_of(compose([f"resume={path}", f"run_dir={tmp_path}/on"]))
    other, _ = start_of(compose([f"resume={path}", f"run_dir={tmp_path}/on", "objective=rloo"]))
    third = ["+phase3=rloo", "phase3.start=4", "iterations=6", "phase2.lr=1e-6"]
    more, _ = start_of(compose([f"resume={path}", f"run_dir={tmp_path}/on", *third]))
    assert [phase.name for phase in kept.phases] == ["nsr_prerl", "grpo"]
    assert [phase.name for phase in other.phases] == ["nsr_prerl", "rloo"]
    assert [(phase.name, phase.lr) for phase in more.phases][1:] == [("grpo", 1e-6), ("rloo", 1e-4)]


def test_killed_before_its_first_checkpoint(before, tmp_path):
    path = before / "checkpoints" / "iteration1.ckpt"
    config, _ = start_of(compose([f"resume={path}", f"run_dir={tmp_path}/on", "iterations=3", "optimizer.eps=1e-6"]))
    (tmp_path / "on").mkdir()
    (tmp_path / "on" / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config.resolved))))
    for _ in range(2):  # a second kill changes nothing
        again, found = start_of(compose(["resume=last", f"run_dir={tmp_path}/on"]))
        assert found == path
        assert again.optimizer.eps == 1e-6
        assert again.resolved["resume"] == str(path)
