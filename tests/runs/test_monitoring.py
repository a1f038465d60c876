"""Early warnings in runs: a phase 1 that stays too long is told, left, or stopped, and a resume changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from dsrl import compose, register
from dsrl.errors import ConfigError
from dsrl.monitors import EarlyWarning, Monitor
from dsrl.phases.scheduler import PhaseScheduler
from dsrl.registry import load_plugins, registered_parts

# A phase 1 that destroys the model within a few iterations.
TOO_LONG = (
    "objective=nsr_prerl",
    "objective.advantage=signed",
    "optimizer.lr=1e-3",
    "iterations=7",
    "validation.every=0",
    "checkpoint.every=1",
)


def lines(folder: Path, name: str) -> list[dict]:
    path = folder / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def timeless(folder: Path) -> list[dict]:
    clock = ("time/", "throughput/")
    return [
        {key: value for key, value in line.items() if not key.startswith(clock)} for line in lines(folder, "metrics")
    ]


def test_a_phase_that_stays_too_long_is_told_once(fit, tmp_path, capsys):
    fit(*TOO_LONG)
    given, metrics = lines(tmp_path / "run", "warnings"), lines(tmp_path / "run", "metrics")
    told = [line["monitor"] for line in given]
    assert {"logprob", "signal"} <= set(told) and len(told) == len(set(told))
    (logprob,) = [line for line in given if line["monitor"] == "logprob"]
    assert (logprob["phase"], logprob["action"], logprob["metric"]) == (1, "warn", "marginal/logprob")
    holds = [line["iteration"] for line in metrics if "warnings/logprob" in line]
    assert holds[0] == logprob["iteration"] and len(holds) > 1
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("warning, logprob:") == 1
    said = [logprob[part] for part in ("figure", "why", "remedy")]
    assert all(part in printed for part in said)
    at_the_end = printed.partition("warnings in phase 1")[2]
    assert f"iteration {logprob['iteration']}, logprob: {said[0]}. {said[1]} {said[2]}" in at_the_end


def test_a_handoff_begins_the_next_phase_and_its_reason_is_kept(fit, tmp_path):
    module = fit(*TOO_LONG, "+phase2=grpo", "phase2.start=6", "monitors.logprob.action=handoff")
    (logprob, *_) = [line for line in lines(tmp_path / "run", "warnings") if line["monitor"] == "logprob"]
    first = logprob["iteration"] + 1
    assert first < 6 and logprob["action"] == "handoff"
    phases = [line["phase"] for line in lines(tmp_path / "run", "metrics")]
    assert phases == [1] * first + [2] * (7 - first)
    saved = torch.load(tmp_path / f"run/checkpoints/handoff-phase2-iteration{first}.ckpt", weights_only=True)
    state = saved["callbacks"]["PhaseScheduler"]
    assert (state["starts"], state["reasons"]) == ([0, first], [f"monitor logprob warned in iteration {first - 1}"])
    (scheduler,) = [callback for callback in module.trainer.callbacks if isinstance(callback, PhaseScheduler)]
    assert scheduler.starts == [0, first]


def test_a_stop_ends_the_run_with_a_checkpoint_and_a_resume_goes_on(fit, tmp_path, capsys):
    stops = ("monitors.logprob.action=stop", "checkpoint.every=0")
    fit(*TOO_LONG, *stops)
    iteration = lines(tmp_path / "run", "warnings")[-1]["iteration"]
    assert len(lines(tmp_path / "run", "metrics")) == iteration + 1 < 7
    assert (tmp_path / f"run/checkpoints/iteration{iteration}.ckpt").exists()
    assert f"stopped after {iteration + 1} of 7 iterations: `fit(compose(" in capsys.readouterr().out
    fit(*TOO_LONG, *stops, "resume=last")  # it has been told
    assert len(lines(tmp_path / "run", "metrics")) == 7


@pytest.mark.parametrize(("iteration", "every"), [(4, 1), (5, 10)])
def test_a_resumed_run_is_warned_as_one_never_interrupted(fit, tmp_path, iteration, every, killed_in):
    """Warnings of iterations that run again are dropped before: all of them where no checkpoint was written yet."""
    asked = (*TOO_LONG, "+phase2=grpo", "phase2.start=6", f"checkpoint.every={every}")
    fit(*asked, f"run_dir={tmp_path / 'whole'}")
    with pytest.raises(BaseException):  # noqa: B017  (Lightning turns an interrupt into an exit)
        fit(*asked, f"run_dir={tmp_path / 'cut'}", callbacks=(killed_in(iteration),))
    fit(*asked, f"run_dir={tmp_path / 'cut'}", "resume=last")
    assert lines(tmp_path / "cut", "warnings") == lines(tmp_path / "whole", "warnings") != []
    assert timeless(tmp_path / "cut") == timeless(tmp_path / "whole")


@pytest.fixture
def always():
    """A plugin's monitor, which warns in every iteration."""
    load_plugins()
    before = dict(registered_parts["monitor"])

    @register("monitor", "always")
    @dataclass(kw_only=True)
    class Always(Monitor):
        after: int = 0

        def observe(self, metrics, history):
            warning = EarlyWarning(metric="lr", value=metrics["lr"], figure="[bold]", why="So.", remedy="Nothing.")
            return warning if len(history) >= self.after else None

    yield
    registered_parts["monitor"] = before


def test_a_registered_monitor_is_on_and_may_be_there_twice(always, fit, tmp_path, capsys):
    fit(
        "+phase2=nsr", "phase2.start=1", "iterations=3", "validation.every=0", "+monitors.late={name: always, after: 1}"
    )
    told = [(line["phase"], line["monitor"], line["iteration"]) for line in lines(tmp_path / "run", "warnings")]
    assert told == [(1, "always", 0), (2, "always", 1), (2, "late", 2)]  # once a phase, which has a history of its own
    assert "warning, always: [bold]. So. Nothing." in capsys.readouterr().out


def test_a_handoff_asked_for_by_the_last_iteration_waits_for_the_run_to_go_on(always, fit, tmp_path, capsys):
    asked = ("+phase2=nsr", "phase2.start={name: threshold, above: 2}", "validation.every=0")
    asked = (*asked, "+monitors.late={name: always, after: 1, action: handoff}")
    fit(*asked, "iterations=4", f"run_dir={tmp_path / 'whole'}")
    fit(*asked, "iterations=2", f"run_dir={tmp_path / 'parts'}")
    assert "Phase 2 begins with iteration 2, if the run goes on." in capsys.readouterr().out
    fit(*asked, "iterations=4", f"run_dir={tmp_path / 'parts'}", "resume=last")
    assert [line["phase"] for line in timeless(tmp_path / "whole")] == [1, 1, 2, 2]
    assert timeless(tmp_path / "parts") == timeless(tmp_path / "whole")
    assert lines(tmp_path / "parts", "warnings") == lines(tmp_path / "whole", "warnings")


def test_another_action_acts_though_it_has_been_told(always, fit, tmp_path):
    small = ("validation.every=0", "iterations=4")
    fit(*small, "iterations=1")
    fit(*small, "resume=last", "monitors.always.action=stop")
    assert len(lines(tmp_path / "run", "metrics")) == 2
    fit(*small, "resume=last", "monitors.always.action=stop", "iterations=3")  # it has been told of that, too
    fit(*small, "resume=last", "monitors.always.action=warn")
    assert len(lines(tmp_path / "run", "metrics")) == 4
    told = [(line["monitor"], line["action"], line["iteration"]) for line in lines(tmp_path / "run", "warnings")]
    assert told == [("always", "warn", 0), ("always", "stop", 1)]


def test_off_turns_one_off():
    on = compose([]).monitors
    assert set(on) - set(compose(["monitors.entropy.action=off"]).monitors) == {"entropy"}


def test_the_default_is_written_out_and_may_change_on_resume(fit):
    fit("iterations=1", "validation.every=0")
    assert compose([]).resolved["monitors"]["reward"]["action"] == "warn"
    fit("iterations=2", "validation.every=0", "resume=last", "monitors.reward.fall=0.5")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("monitors.entropy.action=halt", "monitors.entropy: action=halt: allowed are off, warn, handoff, stop"),
        ("monitors.entropy.action=handoff", r"monitors.entropy.action=handoff: there is no phase to hand off to"),
        ("monitors.entropy.rise=much", "monitors.entropy.rise=much: must be a number"),
        ("monitors.entropy.rice=2", "unknown key 'monitors.entropy.rice'.*'monitors.entropy.rise'"),
        ("+monitors.entropy.rice=2", "monitors.entropy: monitor 'entropy' has no parameter 'rice'"),
        ("monitors.entrop.rise=2", "unknown key 'monitors.entrop.rise'"),
        ("+monitors.mine.rise=2", "monitors.mine: unknown monitor 'mine'; registered are"),
        ("monitors.entropy=warn", "monitors.entropy"),
    ],
)
def test_messages(words, message):
    with pytest.raises(ConfigError, match=message):
        compose([words])
