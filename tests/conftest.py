"""One thread a test: the models are tiny, and threads that wait for each other cost more than they bring."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import pytest
import torch
from forgetting import own_registry  # noqa: F401

from dsrl.config.compose import compose
from dsrl.loop.module import DSRLModule
from dsrl.runs.fit import build_trainer
from dsrl.runs.start import start_of

torch.set_num_threads(1)
os.environ["COLUMNS"] = "160"  # of what is printed: as wide as it is in a file, whoever runs the tests

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


class KilledIn(L.Callback):
    """Ends the run in the middle of an iteration."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.current_epoch == self.iteration:
            raise KeyboardInterrupt


@pytest.fixture
def killed_in() -> type[KilledIn]:
    """Make a callback that ends a run in the middle of the iteration that it is given."""
    return KilledIn


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """Engines that are started meanwhile compute with one thread: for so small a model, threads that wait for each
    other take several times the time of one, beside other tests even more."""
    core = min(os.sched_getaffinity(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda process: {core})
        yield


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests for several workers: first those with an engine, one after the other, since they look at what
    engines leave behind; then other slow ones, each by itself, so that none is what all wait for at the end; then the
    rest, by file.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    for item in items:
        if item.get_closest_marker("vllm"):
            item.add_marker(pytest.mark.xdist_group("engines"))
        elif not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.xdist_group(item.path.name))
    items.sort(key=lambda item: (not item.get_closest_marker("vllm"), not item.get_closest_marker("slow")))
