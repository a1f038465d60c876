"""The date that chat templates write: that of the day on which a run or an evaluation began."""

from datetime import date

import pytest
from omegaconf import OmegaConf

from dsrl.config.chat_date import with_chat_date
from dsrl.config.compose import compose
from dsrl.errors import ConfigError
from dsrl.evaluation.config import EvaluationConfig


@pytest.fixture(autouse=True)
def the_day(monkeypatch):
    day = type("date", (date,), {"today": classmethod(lambda cls: date(2026, 11, 30))})
    monkeypatch.setattr("dsrl.config.chat_date.date", day)


@pytest.mark.parametrize(
    ("words", "saved", "expected"),
    [
        ([], None, "2026-11-30"),
        ([], {"model": {"chat_date": "2026-11-28"}}, "2026-11-28"),  # a resume
        ([], {"model": {}}, "2026-11-30"),  # of a run older than this setting
        (["model.chat_date='2024-02-29'"], {"model": {"chat_date": "2026-11-28"}}, "2024-02-29"),
    ],
)
def test_it_is_that_of_the_beginning_unless_another_is_given(words, saved, expected):
    config = with_chat_date(compose(words), saved)
    assert config.model.chat_date == config.resolved["model"]["chat_date"] == expected


def test_an_evaluation_goes_on_with_its_own(tmp_path):
    began = EvaluationConfig.of(["model=tiny", f"run_dir={tmp_path}"])
    assert began.model.chat_date == began.resolved["model"]["chat_date"] == "2026-11-30"
    before = {**began.resolved, "model": {**began.resolved["model"], "chat_date": "2026-11-28"}}
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(before)))
    for words in ([], ["model=tiny"]):
        assert EvaluationConfig.of([f"resume={tmp_path}", *words]).model.chat_date == "2026-11-28"


def test_what_is_no_date_is_refused():
    with pytest.raises(ConfigError, match="model.chat_date=tomorrow: must be a date, such as 2026-11-30, or null"):
        compose(["model.chat_date=tomorrow"])
