"""A run whose disk is full, or whose folder vanishes, ends with one sentence; what was complete stays."""

import json
import os
import re
import resource
import shutil
import signal

import lightning as L
import pytest

from dsrl.config.compose import compose
from dsrl.errors import ConfigError, DSRLError
from dsrl.export import main as export_main
from dsrl.runs.fit import fit as run
from dsrl.storage.checkpoint_files import read_checkpoint

LINE = (
    "iterations=3",
    "prompts_per_iteration=2",
    "responses_per_prompt=2",
    "sampling.max_new_tokens=8",
    "validation.every=0",
    "checkpoint.every=1",
    "checkpoint.keep=5",
    "data.train_size=20",
    "logger=none",
    "logged_samples=1",
    "logged_tokens=0",
    "report=false",
)


@pytest.fixture
def no_file_over():
    """Let no file grow beyond so many bytes, as a full disk does, until the test ends."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


class When(L.Callback):
    """Does something at a hook of an iteration."""

    def __init__(self, hook, iteration, does):
        self.iteration, self.does = iteration, does
        setattr(self, hook, self._at)

    def _at(self, trainer, *rest):
        if trainer.current_epoch == self.iteration:
            self.does()


def numbers(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["iteration"], line["loss"], line["grad_norm"]) for line in lines]


def test_the_older_checkpoints_stay_and_the_run_goes_on_as_if_nothing_had_been(tmp_path, no_file_over):
    config = compose([*LINE, f"run_dir={tmp_path}/run"])
    full = When("on_train_epoch_start", 2, lambda: no_file_over(1_000_000))
    with pytest.raises(DSRLError) as told:
        run(config, callbacks=[full])
    newest = tmp_path / "run" / "checkpoints" / "iteration2.ckpt"
    assert str(told.value) == f"{newest}: cannot be written: File too large"
    assert told.value.__notes__[-1].endswith("goes on from iteration1.ckpt, and runs iteration 2 again")
    assert sorted(os.listdir(newest.parent)) == ["iteration0.ckpt", "iteration1.ckpt"]
    assert read_checkpoint(newest.parent / "iteration1.ckpt")["dsrl"]["iterations_done"] == 2
    no_file_over(resource.RLIM_INFINITY)
    run(compose([*LINE, f"run_dir={tmp_path}/run", "resume=last"]))
    run(compose([*LINE, f"run_dir={tmp_path}/whole"]))
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")


@pytest.mark.parametrize(
    ("hook", "iteration", "size", "words", "named"),
    [
        ("on_train_epoch_start", 0, 2_000, ("record=all",), "rollouts/iteration000000-rank0.parquet"),
        ("on_train_end", 2, 50_000, (), "hf"),
        ("on_train_epoch_end", 0, 100, ("logger=local", "~logger.tensorboard", "checkpoint.every=0"), "metrics.jsonl"),
        ("on_train_batch_end", 0, 1_000_000, ("+phase2=grpo", "phase2.start=1"), "checkpoints/handoff"),
    ],
)
def test_every_file_of_a_run_is_named(hook, iteration, size, words, named, tmp_path, no_file_over):
    given = [*(word for word in LINE if not word.startswith("iterations")), "iterations=2", *words]
    config = compose([*given, f"run_dir={tmp_path}/run"])
    with pytest.raises(DSRLError, match=f"^{tmp_path}/run/{named}.*: cannot be written: File too large\n"):
        run(config, callbacks=[When(hook, iteration, lambda: no_file_over(size))])
    assert not list((tmp_path / "run").rglob(".*.partial"))


def test_a_folder_that_vanishes(tmp_path):
    config = compose([*LINE, f"run_dir={tmp_path}/run"])
    gone = When("on_train_epoch_start", 1, lambda: shutil.rmtree(tmp_path / "run"))
    with pytest.raises(DSRLError, match=f"^{tmp_path}/run/samples.jsonl: cannot be written: No such file") as told:
        run(config, callbacks=[gone])
    assert told.value.__notes__[-1].startswith(f"{tmp_path}/run is gone, with what was in it: the command that began")
    assert not (tmp_path / "run").exists()


def test_a_report_that_does_not_fit_ends_no_run(tmp_path, no_file_over, capsys):
    given = [*(word for word in LINE if not word.startswith(("iterations", "report"))), "iterations=1"]
    config = compose([*given, f"run_dir={tmp_path}/run"])

    def when_hf_is_written():
        import dsrl.runs.report as report

        write = report.write_report

        def write_report(*arguments):
            no_file_over(10_000)
            return write(*arguments)

        report.write_report = write_report

    with pytest.MonkeyPatch.context() as patch:
        import dsrl.runs.report as report

        patch.setattr(report, "write_report", report.write_report)
        run(config, callbacks=[When("on_train_start", 0, when_hf_is_written)])
    assert "report.html could not be written: File too large" in capsys.readouterr().out.replace("\n", "")


def test_a_policy_that_does_not_fit_is_written_from_the_last_checkpoint(tmp_path, no_file_over):
    given = [*(word for word in LINE if not word.startswith("iterations")), "iterations=1", f"run_dir={tmp_path}/run"]
    with pytest.raises(DSRLError) as told:
        run(compose(given), callbacks=[When("on_train_end", 1, lambda: no_file_over(50_000))])
    checkpoint, hf = tmp_path / "run" / "checkpoints" / "iteration0.ckpt", tmp_path / "run" / "hf"
    export = f"`python -m dsrl.export {checkpoint} {hf}` writes"
    assert str(told.value) == f"{hf}: cannot be written: File too large"
    assert told.value.__notes__[-1] == f"all 1 iterations are saved in {checkpoint}, and {export} its policy to hf/"
    no_file_over(resource.RLIM_INFINITY)
    with pytest.raises(ConfigError, match=re.escape(f"its hf/ is missing, and {export} it")):
        run(compose([*given, "resume=last"]))
    export_main([str(checkpoint), str(hf)])
    assert (hf / "model.safetensors").exists()
