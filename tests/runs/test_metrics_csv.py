"""metrics.csv has the lines of metrics.jsonl, whatever has happened; services go on with the run that they began."""

import csv
import json
import math
import sys
from types import ModuleType, SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dsrl.config.compose import compose
from dsrl.runs.lightning_objects import loggers_of
from dsrl.runs.logger_ids import keep_ids
from dsrl.runs.metrics_csv import MetricsCSV


def rows_of(folder):
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_equal_line_for_line(folder):
    lines, rows = lines_of(folder), rows_of(folder)
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert {key: value for key, value in row.items() if value} == {
            key: str(value) for key, value in line.items() if value is not None
        }


A, B = {"iteration": 0, "reward/mean": 0.1}, {"iteration": 1, "reward/mean": 1 / 3}
NEW = {"iteration": 2, "reward/mean": 0.5, "probe/x": 2.0, "handoff_reason": 'a "quoted", reason\nof two lines'}


@pytest.fixture
def table(tmp_path):
    """What a run does: adds lines to metrics.jsonl, and then to the table."""

    def add(logger, *lines, whole=False):
        path = tmp_path / "metrics.jsonl"
        with path.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        logger.follow(path, None if whole else lines)

    return add


@pytest.mark.parametrize(
    "runs",
    [
        [[A], [B]],
        [[A, B], [NEW]],  # new columns after a resume
        [[A, NEW], [B]],  # fewer
        [[A], [NEW], [B]],
        [[], [A]],
        [[A, B, NEW]],
        [[{"iteration": -1, "iterations_done": 0, "val/x/avg@1": 0.2}, A], [B]],
        [[{"iteration": 0, "loss": None}], [B]],
        [[A], [{"iteration": 1, "phase": 2, "objective": "grpo", "größe": 1e-30}]],
        [[A], [], [B], [NEW]],
    ],
)
def test_it_has_the_lines_after_any_number_of_starts(runs, table, tmp_path):
    for lines in runs:
        logger = MetricsCSV(str(tmp_path))
        table(logger, whole=True)  # a start
        for line in lines:
            table(logger, line)
            assert_equal_line_for_line(tmp_path)


@pytest.mark.parametrize("kept", range(0, 60, 7))
def test_a_kill_between_the_files_or_within_a_row_is_made_good_by_the_next_start(kept, table, tmp_path):
    logger = MetricsCSV(str(tmp_path))
    table(logger, A, B, NEW)
    logger.file.write_bytes(logger.file.read_bytes()[:kept])
    table(MetricsCSV(str(tmp_path)), whole=True)
    assert_equal_line_for_line(tmp_path)


def test_what_is_not_finite_is_empty_in_both_ways(table, tmp_path):
    logger = MetricsCSV(str(tmp_path))
    table(logger, A, whole=True)
    logger.follow(tmp_path / "metrics.jsonl", [{"iteration": 1, "reward/mean": math.nan}])
    assert rows_of(tmp_path)[1] == {"iteration": "1", "reward/mean": ""}


def test_a_run_that_is_killed_and_goes_on_with_other_metrics(fit, tmp_path, killed_in):
    line = [
        "logger=local",
        "checkpoint.every=2",
        "checkpoint.keep=2",
        "validation.every=2",
        "report=false",
        "logged_samples=0",
    ]
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(*line, "iterations=6", callbacks=(killed_in(3),))
    folder = tmp_path / "run"
    assert_equal_line_for_line(folder)
    before = rows_of(folder)
    (folder / "checkpoints" / "iteration3.ckpt").unlink()  # which a kill would not have written
    fit(*line, "iterations=5", "resume=last", "initial_kl.every=0", "+probe=alignment", "probe.levels=[0]")
    assert_equal_line_for_line(folder)
    after = rows_of(folder)
    assert [row["iteration"] for row in after] == ["-1", "0", "1", "1", "2", "3", "3", "4", "4"]
    assert [row["loss"] for row in after[:4]] == [row["loss"] for row in before[:4]]
    assert after[4]["probe/alignment/known"] and not after[3]["probe/alignment/known"]
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("reward/mean")] == [0, 1, 2, 2, 3, 4]  # 2, of before, is not hidden
    assert [event.step for event in events.Scalars("val/arithmetic/avg@2")] == [0, 2, 4, 5]


class Spy(ModuleType):
    """wandb, as far as Lightning's logger of it asks."""

    run = None

    def __init__(self):
        super().__init__("wandb")
        self.began = []

    def init(self, **named):
        self.began.append(named)
        own = named["id"] or f"new{len(self.began)}"
        return SimpleNamespace(
            id=own, name="x", config=SimpleNamespace(update=lambda *a, **n: None), log=lambda *a: None
        )


@pytest.fixture
def wandb(monkeypatch):
    spy = Spy()
    for name, members in {"wandb.sdk.lib": {"RunDisabled": str}, "wandb.wandb_run": {"Run": str}}.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "wandb", spy)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    return spy


def start(config, folder):
    """What a run does with its loggers at a start."""
    folder.mkdir(exist_ok=True)
    loggers = dict(zip(config.logger, loggers_of(config), strict=True))
    loggers["wandb"].log_hyperparams({"a": 1})
    keep_ids(config.run_dir, loggers)


def test_wandb_goes_on_with_its_run_in_the_same_folder_and_begins_one_in_another(wandb, tmp_path):
    folder, other = tmp_path / "run", tmp_path / "other"
    start(compose(["logger=wandb", f"run_dir={folder}"]), folder)
    start(compose(["logger=wandb", f"run_dir={folder}", "resume=last"]), folder)
    start(compose(["logger=wandb", f"run_dir={folder}", "resume=last"]), folder)
    (folder / "x.ckpt").touch()
    start(compose(["logger=wandb", f"run_dir={other}", f"resume={folder}/x.ckpt"]), other)
    start(compose(["logger=wandb", f"run_dir={folder}", "resume=last", "+logger.wandb.id=mine"]), folder)
    began = [(named["id"], named["resume"]) for named in wandb.began]
    assert began == [(None, "allow"), ("new1", "allow"), ("new1", "allow"), (None, "allow"), ("mine", "allow")]


@pytest.mark.parametrize("text", [None, "{", "{}", '{"wandb": {"kind": "MLFlowLogger", "id": "x"}}'])
def test_a_folder_without_the_id_begins_a_run(text, wandb, tmp_path):
    if text is not None:
        (tmp_path / "loggers.json").write_text(text)
    start(compose(["logger=wandb", f"run_dir={tmp_path}", "resume=last"]), tmp_path)
    assert wandb.began[0]["id"] is None


class MLFlowLogger:
    """As far as its id goes."""

    def __init__(self, run_id=None):
        self.run_id = run_id


def test_ids_of_other_services_by_their_own_names(tmp_path):
    from dsrl.runs.logger_ids import known_id

    spec = {"_target_": f"{__name__}.MLFlowLogger"}
    keep_ids(tmp_path, {"mine": MLFlowLogger("abc"), "csv": MetricsCSV(str(tmp_path))})
    assert known_id(tmp_path, "mine", spec) == {"run_id": "abc"}
    assert known_id(tmp_path, "mine", spec | {"run_id": "other"}) == known_id(tmp_path, "theirs", spec) == {}
