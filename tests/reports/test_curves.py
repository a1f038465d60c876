"""Columns, phases, charts, and intervals against numbers worked out by hand."""

import math
import random

import pytest
from run_folders import iteration, run_folder, validation, write_lines

from dsrl.reports.curves import charts_of, columns_of, half_widths, phases_of
from dsrl.reports.intervals import average_half_width, difference_of, mean_of
from dsrl.reports.reading import read_run
from dsrl.reports.summary import head_of, moments_of, time_by_stage


def test_a_column_has_a_gap_where_a_line_has_no_number():
    lines = [iteration(0, 0.5), iteration(1, 0.6, entropy=2.0), iteration(2, float("nan"))]
    columns = columns_of(lines)
    assert columns["reward/mean"] == [0.5, 0.6, None]
    assert columns["entropy"] == [None, 2.0, None]
    assert "phase" not in columns and "objective" not in columns


def test_phases_are_spans_of_iterations():
    spans = phases_of([iteration(at, 0.5) for at in range(5)])
    assert [(span.objective, span.first, span.last) for span in spans] == [("nsr_prerl", 0, 2), ("grpo", 3, 4)]


def test_every_metric_is_on_one_chart():
    names = ["reward/mean", "val/a/b/avg@2", "reward/format", "custom/one", "custom/two", "mine", "time/sample"]
    shown = [name for chart in charts_of(names) for name in chart["metrics"]]
    assert sorted(shown) == sorted(set(names) - {"time/sample"})
    assert charts_of(names)[0]["metrics"] == ["reward/mean", "val/a/b/avg@2"]


def test_alignment_has_its_charts_and_its_details_have_none():
    shown = {"gain/grpo", "sample/cosine", "sample/nonnegative/wrong", "known", "step/marginal/right"}
    details = {
        "gain/grpo/mlp",
        "known/low",
        "step/marginal/right/high",
        "norm/nsr",
        "logits/cosine/p_c_0.5",
        "sample/cosine/mlp",
    }
    charts = charts_of([f"probe/alignment/{name}" for name in sorted(shown | details)] + ["probe/mine/x", "time/probe"])
    assert {name.removeprefix("probe/alignment/") for chart in charts for name in chart["metrics"]} == shown | {
        "probe/mine/x"
    }
    titles = [chart["title"] for chart in charts]
    assert titles == [
        "Alignment: gain",
        "Alignment: responses",
        "Alignment: tokens",
        "Alignment: the step taken",
        "Probes",
    ]


def test_the_interval_of_avg_at_k_is_that_of_the_questions_own_means():
    generator = random.Random(0)
    k, questions = 4, 50
    counts = [generator.randint(0, k) for _ in range(questions)]
    means = [count / k for count in counts]
    average = sum(means) / questions
    variance = sum((mean - average) ** 2 for mean in means) / questions
    pass_2 = sum(1 - math.comb(k - count, 2) / math.comb(k, 2) for count in counts) / questions
    assert average_half_width(average, pass_2, k, questions) == pytest.approx(1.96 * math.sqrt(variance / questions))


@pytest.mark.parametrize(
    ("pass_1", "pass_2", "reach"),
    [
        (0.0, 0.0, 0.0596),  # none right of 60 questions
        (1.0, 1.0, 0.0596),
        (1 / 240, 2 / 240, 0.0623),  # one of 240 answers: that of `mean_interval` of 1/4 and 59 zeros
        (239 / 240, 1.0, 0.0623),
    ],
)
def test_the_interval_of_avg_at_k_at_the_edge(pass_1, pass_2, reach):
    assert average_half_width(pass_1, pass_2, 4, 60) == pytest.approx(reach, abs=2e-3)


def test_a_mean_has_students_interval():
    assert mean_of([1.0, 2.0, 3.0]) == pytest.approx((2.0, 4.303 / math.sqrt(3)))
    assert mean_of([1.0]) == mean_of([1.0, 1.0, 1.0]) == (1.0, None)


def test_differences_are_paired_where_the_seeds_are_the_same():
    first, second = {0: 0.1, 1: 0.5, 2: 0.9}, {0: 0.2, 1: 0.6, 2: 1.0}
    paired = difference_of(first, second | {1: 0.5})  # of 0.1, 0 and 0.1
    assert paired == pytest.approx((0.2 / 3, 4.303 * 0.1 / 3), rel=1e-3)
    assert difference_of(first, second).half is None  # by as much in each
    unpaired = difference_of(first, {3: 0.2, 4: 0.6, 5: 1.0})
    assert unpaired.value == pytest.approx(0.1)
    assert unpaired.half == pytest.approx(2.776 * math.sqrt(2 * 0.16 / 3))


def test_intervals_need_the_number_of_questions(tmp_path):
    known = half_widths(read_run(run_folder(tmp_path / "a")))
    intervals = [(0.2189, 0.3958), (0.7112, 0.8666)]  # Wilson's, of 30 and of 80 in 100
    halves = [max(high - share, share - low) for (low, high), share in zip(intervals, (0.3, 0.8), strict=True)]
    assert known["val/arithmetic/pass@2"] == pytest.approx(halves, abs=1e-4)
    assert half_widths(read_run(run_folder(tmp_path / "b", data={"name": "questions"}))) == {}


def test_a_validation_says_how_many_questions_it_asked(tmp_path):
    folder = run_folder(tmp_path / "run", data={"name": "questions"})
    said = {"val/arithmetic/questions": 100.0}
    write_lines(folder / "metrics.jsonl", [validation(0, 0.2, 0.3), validation(6, 0.6, 0.8) | said])
    known = half_widths(read_run(folder))
    assert known["val/arithmetic/pass@2"] == [None, pytest.approx(0.8 - 0.7112, abs=1e-4)]
    assert known["val/arithmetic/avg@2"][0] is None and known["val/arithmetic/avg@2"][1] > 0
    assert all("val/arithmetic/questions" not in chart["metrics"] for chart in charts_of(["val/arithmetic/questions"]))


def test_moments_are_the_first_and_the_best_and_the_end_of_each_phase(tmp_path):
    folder = run_folder(tmp_path / "run")
    lines = [iteration(at, reward) for at, reward in enumerate((0.1, 0.2, 0.3, 0.4, 0.5, 0.6))]
    validations = [validation(0, 0.2, 0.3), validation(1, 0.4, 0.4), validation(3, 0.3, 0.4), validation(4, 0.7, 0.7)]
    write_lines(folder / "metrics.jsonl", [*lines, *validations])
    moments = moments_of(read_run(folder))
    best = ["best of phase 1, nsr_prerl", "best of phase 2, grpo"]
    assert moments["columns"] == ["first", best[0], "handoff to grpo", best[1], "end"]
    rows = {row["measure"]: [cell and (cell["at"], cell["value"]) for cell in row["cells"]] for row in moments["rows"]}
    assert rows["arithmetic/avg@2"] == [(0, 0.2), (1, 0.4), (3, 0.3), (4, 0.7), (4, 0.7)]
    assert rows["training reward, mean of up to 5 iterations"] == [
        (3, pytest.approx(0.2)), (3, pytest.approx(0.2)), (3, pytest.approx(0.2)), (6, pytest.approx(0.5)),
        (6, pytest.approx(0.5)),
    ]  # fmt: skip


def test_a_phase_without_a_validation_ends_at_the_one_before_and_has_no_best(tmp_path):
    rows = moments_of(read_run(run_folder(tmp_path / "run")))["rows"]
    cells = [cell and (cell["at"], cell["value"]) for cell in rows[0]["cells"]]
    assert cells == [(0, 0.2), None, (0, 0.2), (6, 0.6), (6, 0.6)]


def test_of_one_phase_the_best_has_no_number_and_a_run_goes_on(tmp_path):
    moments = moments_of(read_run(run_folder(tmp_path / "run", rewards=(0.3, 0.1))))
    assert moments["columns"] == ["first", "best", "so far"]
    means = [cell["value"] for cell in moments["rows"][-1]["cells"]]
    assert means == [pytest.approx(0.2)] * 3  # two iterations are one window


def test_the_head_names_the_command_the_phases_and_their_parts(tmp_path):
    head = dict(head_of(read_run(run_folder(tmp_path / "run"))))
    assert head["Command"] == "python train.py objective=nsr_prerl +phase2=grpo"
    assert head["Phase 1"] == "nsr_prerl: space marginal, keep negative; lr 0.0001; iterations 0 to 2"
    assert head["Progress"] == "6 of 6 iterations, 0.4 min in iterations, 600 tokens sampled"


def test_time_that_is_in_no_stage_is_other(tmp_path):
    stages = time_by_stage(read_run(run_folder(tmp_path / "run")))
    assert stages == [("sample", 12.0, 0.5), ("update", 6.0, 0.25), ("other", 6.0, 0.25)]
