"""Where a run starts: folders that are in use, checkpoints of an earlier version, what a configuration adds."""

import lightning as L
import pytest
import torch

from dsrl.config.compose import compose
from dsrl.errors import ConfigError
from dsrl.runs.fit import fit as run
from dsrl.runs.start import check_run_dir, start_of

TINY = (
    "iterations=2",
    "prompts_per_iteration=2",
    "responses_per_prompt=2",
    "sampling.max_new_tokens=8",
    "validation.every=0",
    "checkpoint.every=1",
    "data.train_size=20",
    "logger=none",
)


class Counting(L.Callback):
    seen: list[int] = []

    def __init__(self, first: int = 0):
        self.first = first

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append(self.first + trainer.current_epoch)


def test_a_second_run_does_not_wipe_the_first(tmp_path):
    line = [*TINY, f"run_dir={tmp_path}/run"]
    config = compose(line)
    run(config)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert compose(line).run_dir == config.run_dir  # to compose is fine
    for again in (config, compose(line)):
        with pytest.raises(ConfigError, match="holds a run already; choose another, or go on with it by resume=last"):
            run(again)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == lines


def test_a_folder_of_another_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "x.ckpt").touch()
    check_run_dir(compose([f"run_dir={tmp_path}", "resume=last"]))
    with pytest.raises(ConfigError, match=r"x.ckpt needs a new one \(resume=last goes on in this\)"):
        check_run_dir(compose([f"run_dir={tmp_path}", f"resume={tmp_path}/checkpoints/x.ckpt"]))
    assert start_of(compose([f"run_dir={tmp_path}/new", "resume=last", "seed=1"])).checkpoint is None


def as_version_0_1_wrote_it(path, target):
    content = torch.load(path, weights_only=True)
    config = content["dsrl"]["config"]
    config["refill"] = config.pop("dynamic_sampling")
    config["samples_per_iteration"] = config.pop("logged_samples")
    config["update"]["max_tokens"] = config["update"].pop("micro_batch_tokens")
    for key in ("max_time", "deterministic", "benchmark", "detect_anomaly", "profiler"):
        del config["trainer"][key]
    del config["callbacks"]
    torch.save(content, target)


def test_a_checkpoint_of_version_0_1(tmp_path):
    run(compose([*TINY, "objective=nsr_prerl", "+phase2=grpo", "phase2.start=1", f"run_dir={tmp_path}/run"]))
    folder, old = tmp_path / "run" / "checkpoints", tmp_path / "old.ckpt"
    as_version_0_1_wrote_it(folder / "iteration1.ckpt", old)
    same = ["objective=nsr_prerl", "+phase2=grpo", "phase2.start=1", f"resume={old}", f"run_dir={tmp_path}/on"]
    assert start_of(compose([*TINY, "iterations=3", *same])).checkpoint == old
    assert start_of(compose([*TINY, "iterations=3", "dynamic_sampling=2", *same])).config.dynamic_sampling == 2
    with pytest.raises(ConfigError, match=r"^resume=.*\ndata.digits: 4 in the checkpoint, 2 now\n"):
        start_of(compose([*TINY, "iterations=3", "data.digits=2", *same]))
    as_version_0_1_wrote_it(folder / "handoff-phase2-iteration1.ckpt", old)
    config, _ = start_of(compose([*TINY, "objective=rloo", f"resume={old}", f"run_dir={tmp_path}/on"]))
    assert [(phase.name, phase.start) for phase in config.phases] == [("nsr_prerl", 0), ("rloo", 1)]
    assert config.resolved["phase2"]["objective"]["name"] == "rloo"


def test_callbacks_and_arguments_of_lightning(tmp_path, monkeypatch):
    monkeypatch.setattr(Counting, "seen", [])
    target = f"+callbacks.mine._target_={__name__}.Counting"
    given = ["trainer.max_time='00:00:10:00'", "trainer.profiler=simple", "trainer.detect_anomaly=true"]
    run(compose([*TINY, target, "+callbacks.mine.first=10", *given, f"run_dir={tmp_path}/run"]))
    assert Counting.seen == [10, 11]
    assert "run_training_epoch" in next((tmp_path / "run").glob("*profile*.txt")).read_text()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such.Callback", "callbacks.mine._target_=no_such.Callback cannot be made: "),
        (f"{__name__}.TINY", f"callbacks.mine._target_={__name__}.TINY"),
        ("pathlib.Path", "callbacks.mine._target_=pathlib.Path: must be a Callback of Lightning"),
    ],
)
def test_callbacks_that_are_none(target, message, tmp_path):
    with pytest.raises(ConfigError) as refused:
        run(compose([*TINY, f"+callbacks.mine._target_={target}", f"run_dir={tmp_path}/run"]))
    assert str(refused.value).startswith(message)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_out_of_time_saves_and_goes_on(tmp_path):
    line = [*TINY, "iterations=5000", "checkpoint.every=0", f"run_dir={tmp_path}/run"]
    run(compose([*line, "trainer.max_time='00:00:00:01'"]))
    (saved,) = (tmp_path / "run" / "checkpoints").glob("*.ckpt")
    done = int(saved.stem.removeprefix("iteration")) + 1
    assert done < 5000
    resumed = run(compose([*line, f"iterations={done + 1}", "resume=last"]))
    assert [row["iteration"] for row in resumed.metrics] == [*range(done + 1)]
