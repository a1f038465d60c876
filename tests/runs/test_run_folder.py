"""Lines that a resumed run keeps, and lines that it cuts."""

import json
from types import SimpleNamespace

from dsrl.runs.run_folder import RunFolder


def test_a_resume_keeps_whole_lines_and_drops_what_runs_again(tmp_path):
    # line separators within a response are no ends of a line; the last line was cut short by a kill
    samples = [{"iteration": i, "prompt": "x", "response": "a\u2028b\u0085c"} for i in range(3)]
    metrics = [
        {"iteration": 0, "val/x/avg@1": 1},
        {"iteration": 0, "reward/mean": 0},
        {"iteration": 1, "val/x/avg@1": 1},
    ]
    for name, lines in (("samples", samples), ("metrics", [*metrics, {"iteration": 1, "reward/mean": 0}])):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text + '{"iteration": 2, "rew', encoding="utf-8")
    RunFolder(tmp_path, config={}, samples=1).on_train_start(
        SimpleNamespace(is_global_zero=True, current_epoch=1), SimpleNamespace()
    )
    left = [(tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").split("\n") for name in ("samples", "metrics")]
    assert [[json.loads(line) for line in lines if line] for lines in left] == [samples[:1], metrics]


def test_a_number_that_is_not_finite_is_null(tmp_path):
    """NaN is no JSON."""
    folder, trainer = RunFolder(tmp_path, config={}, samples=1), SimpleNamespace(is_global_zero=True)
    folder._append(trainer, "metrics.jsonl", {"iteration": 0, "loss": float("nan"), "lr": 0.5})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"iteration": 0, "loss": null, "lr": 0.5}\n'
