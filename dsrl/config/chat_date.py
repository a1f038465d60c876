"""The date that chat templates write into prompts: that of the day on which a run began, for as long as it goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import date
from typing import Any, Protocol, TypeVar

from dsrl.config.schema import ModelConfig


class HasModel(Protocol):
    """The configuration of a run or of an evaluation."""

    model: ModelConfig
    resolved: dict[str, Any]


Config = TypeVar("Config", bound=HasModel)


def with_chat_date(config: Config, saved: Mapping[str, Any] | None = None) -> Config:
    """Write the day into `model.chat_date` where it is null.

    Args:
        config: of the run.
        saved: the configuration, as plain values, of the run that is resumed, whose date is used again; None for a run
            from the beginning.
    """
    if config.model.chat_date is not None:
        return config
    day = (saved or {}).get("model", {}).get("chat_date") or date.today().isoformat()
    model = dataclasses.replace(config.model, chat_date=day)
    resolved = {**config.resolved, "model": {**config.resolved["model"], "chat_date": day}}
    return dataclasses.replace(config, model=model, resolved=resolved)  # type: ignore[type-var]
