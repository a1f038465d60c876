"""A start that was interrupted before an iteration was finished blocks no other one."""

import json
import os
import signal

import lightning as L
import pytest

from dsrl.config.compose import compose
from dsrl.errors import ConfigError
from dsrl.runs.fit import build_trainer
from dsrl.runs.fit import fit as run
from dsrl.runs.start import check_run_dir

LINE = (
    "iterations=1",
    "prompts_per_iteration=2",
    "responses_per_prompt=2",
    "sampling.max_new_tokens=4",
    "validation.k=1",
    "data.train_size=20",
    "data.val_size=2",
    "logger=none",
    "logged_samples=1",
    "report=false",
)


class Interrupts(L.Callback):
    """Interrupts the run at a hook."""

    def __init__(self, hook, does):
        self.does = does
        setattr(self, hook, self._at)

    def _at(self, *arguments, **rest):
        self.does()


def interrupt():
    raise KeyboardInterrupt


def iterations(folder, name="metrics.jsonl"):
    return [json.loads(line)["iteration"] for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize(
    "hook",
    [
        "setup",
        "on_fit_start",
        "on_validation_batch_end",
        "on_sanity_check_end",
        "on_train_start",
        "on_train_batch_start",
    ],
)
def test_the_same_command_works_after_an_interrupt_at_every_stage(hook, tmp_path):
    words = [*LINE, f"run_dir={tmp_path}/run"]
    with pytest.raises(SystemExit):  # Lightning's
        run(compose(words), callbacks=[Interrupts(hook, interrupt)])
    check_run_dir(compose([*words, "resume=last"]))
    run(compose(words))
    assert iterations(tmp_path / "run") == [-1, 0, 0]
    assert iterations(tmp_path / "run", "validations.jsonl") == [-1, 0]


def test_what_it_has_left_is_not_of_the_run_that_comes_after(tmp_path):
    words = [*LINE, f"run_dir={tmp_path}/run"]
    with pytest.raises(SystemExit):
        run(compose(words), callbacks=[Interrupts("on_train_start", interrupt)])
    assert iterations(tmp_path / "run") == [-1]
    run(compose([*words, "validation.every=0"]))
    assert iterations(tmp_path / "run") == [0]
    assert iterations(tmp_path / "run", "validations.jsonl") == []


def test_a_finished_iteration_makes_it_a_run(tmp_path, monkeypatch):
    words = [*LINE, "validation.every=0", "checkpoint.every=0", "iterations=2", f"run_dir={tmp_path}/run"]
    monkeypatch.setattr("dsrl.runs.rescue.Rescue.on_exception", lambda *arguments: None)  # as after a kill
    with pytest.raises(SystemExit):
        run(compose(words), callbacks=[Interrupts("on_train_epoch_end", interrupt)])
    lines = tmp_path / "run" / "metrics.jsonl"
    check_run_dir(compose(words))
    lines.write_text('{"iteration": 0, "reward/mean": 0.0}\n')
    with pytest.raises(ConfigError, match="resume=last, from the beginning, since it has no checkpoint"):
        check_run_dir(compose(words))
    run(compose([*words, "resume=last"]))
    assert iterations(tmp_path / "run") == [0, 1]


def test_a_signal_in_the_validation_before_any_update_stops_before_any_iteration(tmp_path, capsys):
    words = [*LINE, f"run_dir={tmp_path}/run"]
    terminates = Interrupts("on_sanity_check_start", lambda: os.kill(os.getpid(), signal.SIGTERM))
    trainer, *parts = build_trainer(compose(words))
    trainer.callbacks.append(terminates)
    trainer.fit(*parts)
    assert "stopped after 0 of 1 iterations" in capsys.readouterr().out
    assert not (tmp_path / "run" / "hf").exists()
    run(compose(words))
    assert iterations(tmp_path / "run") == [-1, 0, 0]
