"""Lines that a resumed run keeps, and lines that it cuts."""

import json
import math
from types import SimpleNamespace

import pytest

from dsrl.runs.lines import read_lines, text_of
from dsrl.runs.run_folder import RunFolder


def test_a_resume_keeps_whole_lines_and_drops_what_runs_again(tmp_path):
    # line separators within a response are no ends of a line; the last line was cut short by a kill
    samples = [{"iteration": i, "prompt": "x", "response": "a\u2028b\u0085c"} for i in range(3)]
    metrics = [
        {"iteration": -1, "iterations_done": 0, "val/x/avg@1": 1},
        {"iteration": 0, "reward/mean": 0},
        {"iteration": 0, "iterations_done": 1, "val/x/avg@1": 1},
    ]
    for name, lines in (("samples", samples), ("metrics", [*metrics, {"iteration": 1, "reward/mean": 0}])):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text + '{"iteration": 2, "rew', encoding="utf-8")
    RunFolder(tmp_path, config={}, samples=1).on_train_start(
        SimpleNamespace(is_global_zero=True, current_epoch=1), SimpleNamespace()
    )
    left = [(tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").split("\n") for name in ("samples", "metrics")]
    assert [[json.loads(line) for line in lines if line] for lines in left] == [samples[:1], metrics]


def test_a_resume_reads_the_validations_of_version_0_2_as_they_are_today(tmp_path):
    """Their `iteration` was the number of iterations before them."""
    lines = [
        {"iteration": 0, "val/x/avg@1": 0.1},
        {"iteration": 0, "reward/mean": 0},
        {"iteration": 1, "val/x/avg@1": 0.2},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    RunFolder(tmp_path, config={}, samples=1).on_train_start(
        SimpleNamespace(is_global_zero=True, current_epoch=1), SimpleNamespace()
    )
    assert read_lines(tmp_path / "metrics.jsonl") == [
        {"iteration": -1, "iterations_done": 0, "val/x/avg@1": 0.1},
        {"iteration": 0, "reward/mean": 0},
        {"iteration": 0, "iterations_done": 1, "val/x/avg@1": 0.2},
    ]


def test_a_number_that_is_not_finite_is_null():
    """NaN is no JSON."""
    line = {"iteration": 0, "loss": math.nan, "logprobs": {"marginal": [-0.5, -math.inf]}}
    assert text_of(line) == '{"iteration": 0, "loss": null, "logprobs": {"marginal": [-0.5, null]}}\n'


def test_every_question_of_a_validation_is_written_and_makes_its_numbers(fit, tmp_path):
    module = fit("iterations=2", "validation.every=1", "validation.k=3", "data.val_size=5")
    folder = module.config.run_dir
    asked = [json.loads(line) for line in (folder / "validations.jsonl").read_text().splitlines()]
    known = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    known = [line for line in known if "iterations_done" in line]
    assert [line["iterations_done"] for line in asked] == [line["iterations_done"] for line in known] == [0, 1, 2]
    for questions, numbers in zip(asked, known, strict=True):
        assert (questions["set"], questions["k"], questions["question"]) == ("arithmetic", 3, [0, 1, 2, 3, 4])
        assert numbers["val/arithmetic/avg@3"] == pytest.approx(sum(questions["reward"]) / 5)
        assert numbers["val/arithmetic/pass@3"] == pytest.approx(sum(right > 0 for right in questions["right"]) / 5)
        marks = sum(questions["thoughts"]["reflection"])
        assert numbers["val/arithmetic/thoughts/reflection/per_answer"] == pytest.approx(marks / 15)
        assert numbers["val/arithmetic/thoughts/reflection/per_1000_tokens"] == pytest.approx(
            1000 * marks / sum(questions["tokens"])
        )
