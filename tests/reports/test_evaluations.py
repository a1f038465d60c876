"""Evaluations compared: differences by hand, and the questions that changed sides."""

import pytest
from run_folders import evaluation_folder, run_folder

from dsrl.report import main
from dsrl.reports import evaluations
from dsrl.reports.evaluations import compared_evaluations
from dsrl.reports.page import page_data, read_runs

BEFORE = {"a": [0.0, 0.0], "b": [1.0, 1.0], "c": [0.0, 1.0], "d": [1.0, 1.0], "e": [0.0, 0.0]}
AFTER = {"a": [1.0, 1.0], "b": [0.0, 1.0], "c": [1.0, 1.0], "d": [1.0, 1.0], "e": [0.0, 1.0]}
"""a and c are gained, b is lost; d and e stay where they were: half is not more often than not."""


@pytest.fixture
def folders(tmp_path):
    sources = {"a": "algebra", "b": "algebra", "c": "algebra", "d": "geometry", "e": "geometry"}
    return [evaluation_folder(tmp_path / name, own, sources) for name, own in (("before", BEFORE), ("after", AFTER))]


def test_questions_change_sides_both_ways_the_greatest_change_first(folders):
    (found,) = compared_evaluations(read_runs(folders), notes := [])
    assert notes == [] and found.questions == 5 and found.changed == (2, 1)
    assert [(own["prompt"], own["shares"]) for own in found.gained] == [
        ("a", [[0, 2], [2, 2]]),
        ("c", [[1, 2], [2, 2]]),
    ]
    assert [(own["prompt"], own["shares"]) for own in found.lost] == [("b", [[2, 2], [1, 2]])]
    # of the first, in which c is not mostly right, the wrong response; of the second the right ones
    assert found.gained[1]["places"] == [[(0, "math", 2, 0)], [(1, "math", 2, 0), (1, "math", 2, 1)]]


def test_differences_are_of_each_set_and_of_each_source(folders):
    (found,) = compared_evaluations(read_runs(folders), [])
    rows = {row["measure"]: row for row in found.rows}
    assert list(rows)[:2] == ["math: avg", "math: pass@2"]
    whole, algebra = rows["math: avg"], rows["source algebra: avg"]
    assert (whole["first"], whole["second"], whole["difference"]) == pytest.approx((0.5, 0.8, 0.3))
    assert whole["low"] < 0.3 < whole["high"] and whole["questions"] == 5
    assert algebra["difference"] == pytest.approx((1 - 0.5 + 0.5) / 3) and algebra["questions"] == 3
    assert rows["source geometry: avg"]["difference"] == pytest.approx(0.25)


def test_a_page_has_their_responses_however_much_is_left_out(folders, monkeypatch):
    monkeypatch.setattr("dsrl.reports.samples.SAMPLE_BYTES", 0)
    data = page_data(read_runs([*folders, evaluation_folder(folders[0].parent / "third", BEFORE)]))
    assert [(own["first"], own["second"]) for own in data["evaluations"]] == [(0, 1), (0, 2)]
    rows, column = data["samples"]["rows"], data["samples"]["columns"].index("response")
    shown = [[rows[row][column] for row in side] for side in data["evaluations"][0]["lost"][0]["places"]]
    assert shown == [["before answers b rightly, 0", "before answers b rightly, 1"], ["after answers b wrongly, 0"]]
    assert len(rows) == 3 + 4 + 3  # of c, a and b


def test_only_the_greatest_changes_are_listed(folders, monkeypatch):
    monkeypatch.setattr(evaluations, "CHANGED", 1)
    (found,) = compared_evaluations(read_runs(folders), notes := [])
    assert found.changed == (2, 1) and [own["prompt"] for own in found.gained] == ["a"]
    assert notes == ["of 2 questions that were gained, the 1 greatest changes are on this page"]


def test_what_cannot_be_compared_is_a_note(folders, tmp_path):
    other = evaluation_folder(tmp_path / "other", {"z": [1.0, 1.0]})
    data = page_data(read_runs([folders[0], other, run_folder(tmp_path / "run")]))
    assert data["evaluations"] == []
    assert any("share no question" in note for note in data["notes"])


def test_the_terminal_says_it_too(folders, capsys):
    main([*map(str, folders), "--text"])
    printed = capsys.readouterr().out
    assert "after less before, paired by question" in printed
    assert "of 5 questions, 2 are mostly right in after alone, 1 in before alone" in printed
