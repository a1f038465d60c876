"""What a run leaves for its report."""

import json

import pytest

import dsrl.runs.report
from dsrl.reports.reading import read_run
from dsrl.runs.report import command_line


def test_a_run_ends_with_its_report_and_says_how_it_was_started(fit, tmp_path):
    fit("iterations=2", "prompts_per_iteration=2", "validation.every=0", "sampling.max_new_tokens=8")
    assert (tmp_path / "run" / "report.html").stat().st_size > 20_000
    run = read_run(tmp_path / "run")
    assert (run.notes, len(run.iterations), run.finished) == ([], 2, True)
    (start,) = run.starts
    assert (start["iteration"], start["device"]) == (0, "cpu")
    assert {"dsrl", "python", "torch", "lightning", "transformers"} == start["versions"].keys()


def test_a_report_that_cannot_be_written_ends_no_run(fit, tmp_path, monkeypatch, capsys):
    def fail(folders, out):
        raise RuntimeError("no room")

    monkeypatch.setattr(dsrl.runs.report, "write_report", fail)
    fit("iterations=1", "prompts_per_iteration=2", "validation.every=0", "sampling.max_new_tokens=8")
    assert (tmp_path / "run" / "hf").is_dir()
    assert "report.html could not be written: RuntimeError('no room')" in capsys.readouterr().out


def test_a_run_without_a_report_leaves_none(fit, tmp_path):
    fit("iterations=1", "prompts_per_iteration=2", "validation.every=0", "sampling.max_new_tokens=8", "report=false")
    assert not (tmp_path / "run" / "report.html").exists()
    assert json.loads((tmp_path / "run" / "starts.jsonl").read_text())["iteration"] == 0


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["train.py", "+phase2=grpo"], "python train.py +phase2=grpo"),
        (["/site/dsrl/train.py", "data.val=[a, b]"], "python -m dsrl.train 'data.val=[a, b]'"),
        (["/bin/dsrl-train", "seed=1"], "dsrl-train seed=1"),
        (["/home/me/mine.py", "x"], "dsrl.fit in mine.py"),
        ([""], "dsrl.fit in Python"),
    ],
)
def test_the_command_is_one_that_can_be_typed(words, command):
    assert command_line(words) == command
