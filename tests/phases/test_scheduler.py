"""Policy Reincarnation: when phases begin, what happens on entry, and that a resume changes nothing."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from dsrl.config.compose import compose
from dsrl.errors import ConfigError
from dsrl.phases.scheduler import PhaseScheduler

TWO = ("objective=nsr_prerl", "+phase2=grpo", "phase2.start=2", "validation.every=0")


class Watch:
    """What holds at the start of each iteration, after the scheduler has acted."""

    def __init__(self) -> None:
        self.moments: list[int] = []
        self.rates: list[float] = []
        self.temperatures: list[float] = []
        self.reference_is_policy: list[bool] = []

    def look(self, trainer, pl_module):
        (optimizer,) = trainer.optimizers
        self.moments.append(len(optimizer.state))
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.temperatures.append(pl_module.phase.sampling.temperature)
        if pl_module.reference is not None:
            pairs = zip(pl_module.policy.parameters(), pl_module.reference.parameters(), strict=True)
            self.reference_is_policy.append(all(torch.equal(a, b) for a, b in pairs))


def scheduler(module) -> PhaseScheduler:
    (found,) = [callback for callback in module.trainer.callbacks if isinstance(callback, PhaseScheduler)]
    return found


def watched(fit, *overrides: str) -> tuple[object, Watch]:
    watch, original = Watch(), PhaseScheduler.on_train_batch_start

    def then_look(self, trainer, pl_module, batch, batch_idx):
        original(self, trainer, pl_module, batch, batch_idx)
        watch.look(trainer, pl_module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PhaseScheduler, "on_train_batch_start", then_look)
        return fit(*overrides), watch


def test_entry_resets_the_optimizer_sets_the_rate_and_copies_the_reference(fit):
    entry = ("phase2.lr=3e-5", "phase2.sampling.temperature=0.8", "phase2.objective.kl.coefficient=0.01")
    module, watch = watched(fit, *TWO, *entry)
    assert [count > 0 for count in watch.moments] == [False, True, False, True]
    assert watch.rates == [1e-4, 1e-4, 3e-5, 3e-5]
    assert watch.temperatures == [1.0, 1.0, 0.8, 0.8]
    assert watch.reference_is_policy == [True, False, True, False]
    assert scheduler(module).starts == [0, 2]


def test_entry_keeps_what_it_is_told_to_keep(fit):
    keep = ("phase2.reset_optimizer=false", "phase2.sync_reference=false", "phase2.objective.kl.coefficient=0.01")
    _, watch = watched(fit, *TWO, *keep)
    assert [count > 0 for count in watch.moments] == [False, True, True, True]
    assert watch.reference_is_policy == [True, False, False, False]


def test_the_handoff_checkpoint_holds_the_policy_that_phase_1_left(fit, tmp_path):
    fit(*TWO, "phase2.lr=1e-2")
    left = torch.load(tmp_path / "run/checkpoints/handoff-phase2-iteration2.ckpt", weights_only=True)["state_dict"]
    module = fit("objective=nsr_prerl", "iterations=2", "validation.every=0", f"run_dir={tmp_path / 'alone'}")
    assert all(torch.equal(left[key], value) for key, value in module.state_dict().items() if key in left)


def test_a_condition_begins_the_phase_and_is_recorded(fit):
    over = "phase2.start={name: threshold, metric: response/length_mean, above: 1, earliest: 3}"
    module = fit(*TWO, over)
    assert scheduler(module).starts == [0, 3]
    never = fit(*TWO, "phase2.start={name: threshold, above: 2}", f"run_dir={module.config.run_dir}-2")
    assert scheduler(never).starts == [0]
    at_last = fit(*TWO, "phase2.start={name: threshold, above: 2, latest: 1}", f"run_dir={module.config.run_dir}-3")
    assert scheduler(at_last).starts == [0, 1]


def test_a_condition_on_a_validation_metric_sees_only_what_was_measured(fit):
    over = "phase2.start={name: threshold, metric: val/arithmetic/avg@2, above: -1}"
    module = fit(*TWO, over, "validation.every=2")
    assert scheduler(module).starts == [0, 2]


def test_a_metric_that_is_not_in_every_iteration_may_begin_a_phase(fit):
    """It has a value where it was measured, in iterations 0 and 2."""
    over = "phase2.start={name: threshold, metric: kl/initial, above: 1e-12}"
    assert scheduler(fit(*TWO, over, "initial_kl.every=2")).starts == [0, 3]


def test_a_name_that_no_metric_has_ends_the_run(fit):
    module = fit("iterations=1", "validation.every=0")
    with pytest.raises(ConfigError, match=r"^phase2.start: there is no metric 'margin/mean'."):
        module.metric("margin/mean", "phase2.start")
    module.metrics = {"margin/mean": 1.0}
    assert module.metric("margin/mean", "phase2.start") == 1.0
    module.metrics = {"reward/mean": 1.0}
    assert module.metric("margin/mean", "phase2.start") is None  # it was there before, and may be again


def test_three_phases(fit):
    module = fit(*TWO, "phase2.start=1", "+phase3=psr", "phase3.start=3")
    lines = [json.loads(line) for line in (module.config.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["objective"] for line in lines] == ["nsr_prerl", "grpo", "grpo", "psr"]


def numbers(folder: Path) -> list[dict]:
    every = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.startswith(("time/", "throughput/"))} for line in every
    ]


RESUMED = ("checkpoint.every=1", "validation.every=2", "phase2.objective.kl.coefficient=0.01", "iterations=5")


def test_a_resumed_run_gives_the_numbers_of_one_never_interrupted(fit, tmp_path, killed_in):
    whole = fit(*TWO, *RESUMED, f"run_dir={tmp_path / 'whole'}")
    for iteration in range(4):
        folder = tmp_path / f"cut{iteration}"
        with pytest.raises(BaseException):  # noqa: B017  (Lightning turns an interrupt into an exit)
            fit(*TWO, *RESUMED, f"run_dir={folder}", callbacks=(killed_in(iteration),))
        resumed = fit(*TWO, *RESUMED, f"run_dir={folder}", "resume=last")
        assert numbers(folder) == numbers(tmp_path / "whole"), iteration
        pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), iteration


def test_resume_refuses_another_configuration_and_a_finished_run(fit, tmp_path):
    fit(*TWO, "iterations=3", "checkpoint.every=1")
    with pytest.raises(ConfigError, match=r"optimizer.lr: 0.0001 in the checkpoint, 0.001 now"):
        fit(*TWO, "iterations=4", "resume=last", "optimizer.lr=1e-3")
    with pytest.raises(ConfigError, match="finished"):
        fit(*TWO, "iterations=3", "resume=last")


def test_resume_from_a_path_continues_in_a_new_folder(fit, tmp_path):
    fit(*TWO, "checkpoint.every=1", f"run_dir={tmp_path / 'first'}")
    handoff = shutil.copy(tmp_path / "first/checkpoints/handoff-phase2-iteration2.ckpt", tmp_path / "kept.ckpt")
    fit(*TWO, "checkpoint.every=1", f"run_dir={tmp_path / 'second'}", f"resume={handoff}")
    assert numbers(tmp_path / "second") == numbers(tmp_path / "first")[2:]


def lines_of(folder: Path) -> list[dict]:
    return [line for line in numbers(folder) if "reward/mean" in line]


ALONE = ("objective=nsr_prerl", "iterations=2", "validation.every=0", "checkpoint.every=1")


def test_a_start_that_is_due_when_a_run_goes_on_is_not_late(fit, tmp_path):
    fit(*ALONE, f"run_dir={tmp_path / 'first'}")
    path = tmp_path / "first/checkpoints/iteration1.ckpt"
    added = ("+phase2=grpo", "phase2.start=2", "iterations=4", "checkpoint.every=0")
    fit(*ALONE, *added, f"resume={path}", f"run_dir={tmp_path / 'on'}")
    assert [line["phase"] for line in lines_of(tmp_path / "on")] == [2, 2]
    handoff = tmp_path / "on/checkpoints/handoff-phase2-iteration2.ckpt"
    fit(*ALONE, *added, f"resume={handoff}", f"run_dir={tmp_path / 'again'}")
    fit(*ALONE, *added, f"run_dir={tmp_path / 'whole'}")
    assert lines_of(tmp_path / "again") == lines_of(tmp_path / "on") == lines_of(tmp_path / "whole")[2:]
    saved, whole = (
        torch.load(tmp_path / f"{name}/checkpoints/{handoff.name}", weights_only=True) for name in ("on", "whole")
    )
    assert saved["callbacks"]["PhaseScheduler"] == whole["callbacks"]["PhaseScheduler"]
    assert all(torch.equal(saved["state_dict"][name], value) for name, value in whole["state_dict"].items())


PLATEAU = "phase2.start={name: plateau, metric: reward/mean, patience: 1, min_delta: 10}"
AT_TWO = "phase2.start={name: plateau, metric: val/arithmetic/avg@2, patience: 1, min_delta: 10}"


@pytest.mark.parametrize(("start", "every", "first"), [(PLATEAU, 0, 2), (AT_TWO, 2, 4)])
def test_more_iterations_than_were_asked_for_at_first_are_the_longer_run(fit, tmp_path, start, every, first):
    """The validation after the last iteration is none that the longer run makes, so it counts for nothing."""
    asked = ("objective=nsr_prerl", "+phase2=grpo", start, f"validation.every={every}", "validation.k=2")
    longer = f"iterations={first + 1}"
    fit(*asked, longer, f"run_dir={tmp_path / 'whole'}")
    short = 2 if every == 0 else 3
    fit(*asked, f"iterations={short}", f"run_dir={tmp_path / 'parts'}")
    fit(*asked, longer, f"run_dir={tmp_path / 'parts'}", "resume=last")
    assert [line["phase"] for line in lines_of(tmp_path / "whole")] == [1] * first + [2]
    assert lines_of(tmp_path / "parts") == lines_of(tmp_path / "whole")
    handoff = f"checkpoints/handoff-phase2-iteration{first}.ckpt"
    assert (tmp_path / "whole" / handoff).exists() and (tmp_path / "parts" / handoff).exists()


def test_what_was_measured_belongs_to_its_metric():
    """Another condition on the same metric goes on with its values; one on another has none yet."""

    def phases(start: str):
        return compose(["objective=nsr_prerl", "+phase2=grpo", f"phase2.start={start}"]).phases

    before = PhaseScheduler(phases("{name: plateau, metric: reward/mean}"))
    before.history = [0.2, 0.4]
    found = {}
    for start in ("{name: drop, metric: reward/mean}", "{name: drop, metric: response/length_mean}", "5"):
        now = PhaseScheduler(phases(start))
        now.load_state_dict(before.state_dict())
        found[start] = now.history
    assert [*found.values()] == [[0.2, 0.4], [], []]


def test_a_mean_of_nothing_is_not_measured(fit):
    module = fit("iterations=1", "validation.every=0")
    module.metrics = {"reward/mean": math.nan}
    assert module.metric("reward/mean", "checkpoint.best") is None
