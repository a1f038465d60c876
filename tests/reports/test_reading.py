"""Run folders are read as far as they can be read; what cannot is a note."""

import json

import pytest
from run_folders import iteration, run_folder, sample, validation, write_lines

from dsrl.errors import ConfigError
from dsrl.reports.reading import flat, folders_of, number_of, read_run
from dsrl.runs import lines


def test_a_whole_folder_is_read_without_a_note(tmp_path):
    run = read_run(run_folder(tmp_path / "run"))
    assert [line["iteration"] for line in run.iterations] == [0, 1, 2, 3, 4, 5]
    assert [line["iterations_done"] for line in run.validations] == [0, 6]
    assert len(run.samples) == 12
    assert (run.finished, run.is_evaluation, run.notes) == (True, False, [])


def test_a_line_that_a_kill_cut_short_is_left_out_and_named(tmp_path):
    folder = run_folder(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 6, "reward/me')
    run = read_run(folder)
    assert len(run.iterations) == 6
    assert run.notes == ["metrics.jsonl: its last line is incomplete and left out (a kill, or it is being written)"]


def test_files_that_are_missing_are_named(tmp_path):
    run = read_run(tmp_path)
    assert run.notes == ["config.yaml: missing", "metrics.jsonl: missing", "samples.jsonl: missing"]
    assert not run.finished


def test_foreign_files_are_notes(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"\x00\xff: [")
    (tmp_path / "metrics.jsonl").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    write_lines(tmp_path / "samples.jsonl", ["[1, 2]", '"text"', "[" * 100_000, {"response": 3}, sample(0)])
    (tmp_path / "results.json").write_text('{"results": 3}')
    run = read_run(tmp_path)
    assert (run.config, run.iterations, run.results) == ({}, [], {})
    assert len(run.samples) == 1
    assert run.notes == [
        "config.yaml: not a configuration, left out",
        "results.json: not the results of an evaluation, left out",
        "metrics.jsonl: 3 of 3 lines cannot be read and are left out, the first is line 1",
        "samples.jsonl: 3 of 5 lines cannot be read and are left out, the first is line 1",
        "samples.jsonl: 1 lines are no samples (without a response), left out",
    ]


def test_of_an_iteration_that_ran_twice_the_later_line_counts(tmp_path):
    write_lines(tmp_path / "metrics.jsonl", [iteration(1, 0.5), iteration(0, 0.1), iteration(0, 0.2)])
    assert [line["reward/mean"] for line in read_run(tmp_path).iterations] == [0.2, 0.5]


def test_iterations_done_says_when_a_validation_was_where_a_line_has_it(tmp_path):
    write_lines(tmp_path / "metrics.jsonl", [validation(9, 0.5, 0.6) | {"iterations_done": 10}])
    assert [line["iterations_done"] for line in read_run(tmp_path).validations] == [10]


def test_a_validation_of_version_0_2_is_read_as_of_today(tmp_path):
    damaged = validation(4, 0.5, 0.6) | {"iterations_done": "ten"}
    write_lines(tmp_path / "metrics.jsonl", [validation(10, 0.5, 0.6), damaged])
    run = read_run(tmp_path)
    assert [(line["iteration"], line["iterations_done"]) for line in run.validations] == [(9, 10)]
    assert run.validations == lines.read_lines(tmp_path / "metrics.jsonl")[:1]
    assert "metrics.jsonl: 1 lines are of no iteration and no validation, left out" in run.notes


def test_early_warnings_are_read(tmp_path):
    known = {"iteration": 1, "phase": 1, "monitor": "entropy", "figure": "0.1", "why": "It falls.", "remedy": "Stop."}
    write_lines(tmp_path / "warnings.jsonl", [known | {"value": 0.1}, {"iteration": "1", "figure": None}])
    nothing = {"iteration": None, "phase": None, "monitor": "", "figure": "", "why": "", "remedy": ""}
    assert read_run(tmp_path).warnings == [known, nothing]


def test_a_sweeps_folder_stands_for_its_runs_in_their_order(tmp_path):
    folders = [run_folder(tmp_path / "sweep" / str(job)) for job in (10, 9)]
    assert folders_of([tmp_path / "sweep", folders[0]]) == [folders[1], folders[0]]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        folders_of([tmp_path])
    with pytest.raises(ConfigError, match="no such folder"):
        folders_of([tmp_path / "none"])


@pytest.mark.parametrize("value", [None, True, "1", float("nan"), float("inf"), 10**400, []])
def test_only_finite_numbers_are_numbers(value):
    assert number_of(value) is None


def test_a_folder_of_an_evaluation_is_known(tmp_path):
    results = {"results": {"math": {"questions": 3, "k": 2, "avg@2": 0.5, "avg@2_ci95": [0.4, 0.6]}}, "sources": {}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    write_lines(
        tmp_path / "samples.jsonl", [{"set": "math", "question": 0, "sample": 1, "response": "x", "reward": 1.0}]
    )
    run = read_run(tmp_path)
    assert run.is_evaluation
    assert run.notes == ["config.yaml: missing"]


def test_a_configuration_is_flattened_to_dotted_keys():
    assert dict(flat({"a": {"b": 1, "c": {}}, "d": [1]})) == {"a.b": 1, "a.c": {}, "d": [1]}
