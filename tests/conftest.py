"""One thread a test: the models are tiny, and threads that wait for each other cost more than they bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch

from dsrl.config.compose import compose
from dsrl.loop.module import DSRLModule
from dsrl.runs.fit import build_trainer
from dsrl.runs.start import start_of

torch.set_num_threads(1)

SMALL = (
    "prompts_per_iteration=6",
    "responses_per_prompt=4",
    "data.train_size=200",
    "data.val_size=6",
    "validation.k=2",
    "logger=none",
    "iterations=4",
)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., DSRLModule]:
    """Train the embedded model with small sizes, in this process; returns the module, its trainer attached."""

    def fit_small(*overrides: str, callbacks: tuple[L.Callback, ...] = ()) -> DSRLModule:
        # a later override takes the place of an earlier one
        given = {text.split("=", 1)[0]: text for text in (*SMALL, f"run_dir={tmp_path / 'run'}", *overrides)}
        if given.get("data", "data=arithmetic") != "data=arithmetic":
            given = {key: text for key, text in given.items() if text not in SMALL or not key.startswith("data.")}
        config, checkpoint = start_of(compose(list(given.values())))
        trainer, module, data = build_trainer(config, callbacks=callbacks, resumes=checkpoint is not None)
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        return module

    return fit_small
