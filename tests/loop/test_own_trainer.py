"""The module, its data and its phases in a Lightning Trainer of one's own."""

from __future__ import annotations

import json
import os

import lightning as L
import pytest
import torch.distributed as dist
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger

from dsrl import DSRLModule, PhaseScheduler, PromptData, compose
from dsrl.errors import ConfigError

WORDS = (
    "objective=nsr_prerl",
    "+phase2=grpo",
    "phase2.start=1",
    "iterations=3",
    "prompts_per_iteration=4",
    "responses_per_prompt=4",
    "data.train_size=50",
    "data.val_size=4",
    "validation.k=2",
)


@pytest.fixture
def config(tmp_path):
    return compose([*WORDS, f"run_dir={tmp_path}/run"])


def trainer_of(folder, *callbacks, **arguments):
    given = {"max_epochs": 3, "accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
    return L.Trainer(callbacks=list(callbacks), default_root_dir=folder, **{**given, **arguments})


def test_two_phases_in_a_plain_trainer(config, tmp_path):
    module, seen = DSRLModule(config), []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, module, *rest):
            seen.append((module.phase.name, module.metrics["reward/mean"]))

    logger = CSVLogger(tmp_path)
    trainer = trainer_of(tmp_path, PhaseScheduler(config.phases), Watch(), logger=logger, log_every_n_steps=1)
    trainer.fit(module, datamodule=PromptData.of(config))
    assert [name for name, _ in seen] == ["nsr_prerl", "grpo", "grpo"]
    assert (tmp_path / "checkpoints" / "handoff-phase2-iteration1.ckpt").is_file()
    assert {key for key in module.validated if "/thoughts/" not in key} == {
        f"val/arithmetic/{metric}" for metric in ("avg@2", "pass@1", "pass@2", "questions")
    }
    assert "reward/mean" in (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()


def test_the_numbers_are_those_of_fit(config, tmp_path, fit):
    """As long as both validate alike: sampling depends on seed, iteration and position, not on what ran before."""
    L.seed_everything(config.seed, verbose=False)
    module, rewards = DSRLModule(config), []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, module, *rest):
            rewards.append((module.metrics["reward/mean"], module.metrics["loss"], module.metrics["grad_norm"]))

    trainer = trainer_of(tmp_path, PhaseScheduler(config.phases), Watch())
    trainer.fit(module, datamodule=PromptData.of(config))
    mine, rewards[:] = list(rewards), []
    fit(*WORDS, callbacks=(Watch(),))
    assert mine == rewards


def test_without_the_scheduler_phases_are_refused(config, tmp_path):
    with pytest.raises(ConfigError, match=r"need the scheduler: Trainer\(callbacks=\[PhaseScheduler\(config.phases\)"):
        trainer_of(tmp_path).fit(DSRLModule(config), datamodule=PromptData.of(config))


def test_another_number_of_epochs_is_refused(config, tmp_path):
    with pytest.raises(ConfigError, match=r"Trainer\(max_epochs=2\): an epoch is an iteration.*iterations=3"):
        trainer_of(tmp_path, PhaseScheduler(config.phases), max_epochs=2).fit(
            DSRLModule(config), datamodule=PromptData.of(config)
        )


def test_other_data_is_refused(config, tmp_path):
    class Own(L.LightningDataModule):
        def train_dataloader(self):
            return [[]]

        def val_dataloader(self):
            return []

    with pytest.raises(ConfigError, match=r"prompts come from a PromptData"):
        trainer_of(tmp_path, PhaseScheduler(config.phases)).fit(DSRLModule(config), datamodule=Own())


@pytest.fixture
def as_before():
    """Lightning leaves the address of its process group in the environment, where later processes would take it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    if dist.is_initialized():
        dist.destroy_process_group()


def test_a_strategy_that_cannot_hold_the_loop_is_refused(config, tmp_path, as_before):
    trainer = trainer_of(tmp_path, PhaseScheduler(config.phases), strategy="ddp")
    with pytest.raises(ConfigError, match=r"Trainer\(strategy=DDPStrategy\).*strategy=dsrl.strategy_for\(config\)"):
        trainer.fit(DSRLModule(config), datamodule=PromptData.of(config))


def test_the_scheduler_with_another_module_is_refused(config, tmp_path):
    class Other(L.LightningModule):
        def training_step(self, batch, index):
            return None

        def configure_optimizers(self):
            return None

        def train_dataloader(self):
            return [1]

    with pytest.raises(ConfigError, match="run with a DSRLModule, not with Other"):
        trainer_of(tmp_path, PhaseScheduler(config.phases)).fit(Other())


def test_a_partial_validation_before_training_is_not_taken_for_the_whole(config, tmp_path):
    seen = []

    class Watch(L.Callback):
        def on_validation_end(self, trainer, module):
            seen.append((trainer.sanity_checking, module.validated_at))

    trainer = trainer_of(tmp_path, PhaseScheduler(config.phases), Watch(), num_sanity_val_steps=1)
    trainer.fit(DSRLModule(config), datamodule=PromptData.of(config))
    assert seen == [(True, -1), (False, 1), (False, 2), (False, 3)]


class Log(L.Callback):
    """Logs in every way that Lightning has."""

    def on_train_batch_end(self, trainer, module, *rest):
        self.log("mine/step", float(module.iteration))
        if module.iteration == 1:
            self.log("mine/once", 7.0)

    def on_train_epoch_end(self, trainer, module):
        self.log("mine/epoch", 10.0 + module.iteration)
        if module.iteration == 1:
            self.log("mine/once an epoch", 8.0)


def test_what_a_callback_logs_is_in_the_iterations_line(fit, tmp_path):
    fit("iterations=3", "validation.every=2", callbacks=(Log(),))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rows = [line for line in lines if "reward/mean" in line]
    assert [row["mine/step"] for row in rows] == [0, 1, 2]
    assert [row["mine/epoch"] for row in rows] == [10, 11, 12]
    assert [row.get("mine/once") for row in rows] == [None, 7, None]
    assert [row.get("mine/once an epoch") for row in rows] == [None, 8, None]
    assert [("reward/mean" in line, line["iteration"]) for line in lines] == [
        (False, -1),
        (True, 0),
        (True, 1),
        (False, 1),
        (True, 2),
        (False, 2),
    ]


def test_a_callback_of_lightnings_ends_the_run_with_its_policy(fit, tmp_path):
    stop = EarlyStopping("lr", patience=1, check_on_train_epoch_end=True)  # the rate never improves
    module = fit("iterations=4", "validation.every=0", callbacks=(stop,))
    assert module.trainer.current_epoch == 2
    assert (tmp_path / "run" / "hf" / "config.json").is_file()
    assert (tmp_path / "run" / "checkpoints" / "iteration1.ckpt").is_file()


def test_what_a_phase_alone_measures_is_in_its_lines_alone(fit, tmp_path):
    fit("objective=nsr_prerl", "+phase2=grpo", "phase2.start=2", "validation.every=0", "iterations=4")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    spaces = [{key.partition("/")[0] for key in row} & {"marginal", "conditional"} for row in rows]
    assert spaces == [{"marginal"}, {"marginal"}, {"conditional"}, {"conditional"}]
