"""What reaches Lightning's loggers beside the metrics of iterations."""

import lightning as L
import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dsrl.runs.loggers import log_samples


class Table(Logger):
    """Has tables, as wandb's does."""

    def __init__(self):
        super().__init__()
        self.tables = []

    name = version = "table"

    def log_hyperparams(self, *arguments, **named):
        """Nothing."""

    def log_metrics(self, metrics, step=None):
        """Nothing."""

    def log_table(self, key, columns, data, step):
        self.tables.append((key, columns, data, step))


def test_the_configuration_the_first_validation_and_samples_reach_the_loggers(fit, tmp_path):
    module = fit("logger=local", "iterations=1", "objective=nsr_prerl")
    csv, folder = module.trainer.loggers[0], tmp_path / "run"
    assert isinstance(csv, CSVLogger)
    saved = yaml.unsafe_load((folder / "csv" / "hparams.yaml").read_text())
    assert saved["optimizer"]["lr"] == module.config.optimizer.lr and saved["objective"]["name"] == "nsr_prerl"
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("val/arithmetic/avg@2")] == [0, 1]
    tags = events.Tags()
    assert "hp_metric" not in tags["scalars"]
    assert {f"samples/{name}/text_summary" for name in ("train", "arithmetic")} <= set(tags["tensors"])
    (shown,) = events.Tensors("samples/train/text_summary")
    assert b"reward" in shown.tensor_proto.string_val[0] and b"kept" in shown.tensor_proto.string_val[0]


@pytest.mark.parametrize("samples", [[], [{"question": 3, "reward": 1.0, "response": "<b>", "tokens": ["<b>"]}]])
def test_a_logger_with_tables_gets_one_of_the_samples(samples):
    table = Table()
    trainer = L.Trainer(logger=table, enable_progress_bar=False, barebones=False)
    log_samples(trainer, "samples/train", samples, step=4)
    rows = [[3, "<b>", 1.0]]
    assert table.tables == ([("samples/train", ["question", "response", "reward"], rows, 4)] if samples else [])
