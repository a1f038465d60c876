"""Runs of the command line in processes of their own, as a user starts them."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from warm import Forks

ROOT = Path(__file__).parents[2]
SMALL = (
    "trainer.accelerator=cpu",
    "trainer.timeout=600",
    "prompts_per_iteration=5",
    "responses_per_prompt=4",
    "data.train_size=100",
    "data.val_size=5",
    "validation.k=2",
    "validation.every=0",
    "logger=none",
)
ENVIRONMENT = {
    "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
    "DSRL_PLUGINS": "site_parts",
    "OMP_NUM_THREADS": "1",
}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """What `python train.py` is forked from."""
    forks = Forks(tmp_path_factory.mktemp("forks"), ROOT / "train.py", {**os.environ, **ENVIRONMENT})
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def start(forks: Forks) -> Any:
    """Start `python train.py` with small sizes; what still runs at the end of the session is killed."""
    running: list[Any] = []

    def start(*overrides: str, environment: Mapping[str, str] = {}, before: tuple[str, ...] = ()) -> Any:
        given = {text.split("=", 1)[0]: text for text in (*SMALL, *overrides)}
        if not before:
            running.append(forks.start([*given.values()], {**os.environ, **ENVIRONMENT, **environment}))
            return running[-1]
        command = [*before, str(ROOT / "train.py"), *given.values()]
        process = subprocess.Popen(
            command,
            env={**os.environ, **ENVIRONMENT, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # CI in the background ignores it
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.communicate()


@pytest.fixture(scope="session")
def train(start: Start) -> Callable[..., None]:
    """Run it to the end, which must be a good one."""

    def train(*overrides: str, **rest: Any) -> None:
        process = start(*overrides, **rest)
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors[-3000:]

    return train


@pytest.fixture(scope="session")
def train_once(train: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The run folder of a run that several tests read, by name: one run, however many processes run tests."""
    base = tmp_path_factory.getbasetemp()
    runs = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "runs"
    runs.mkdir(exist_ok=True)

    def train_once(name: str, *overrides: str, **rest: Any) -> Path:
        folder, done = runs / name, runs / f"{name} is done"
        with (runs / f"{name} is locked").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                train(*overrides, f"run_dir={folder}", **rest)
                done.touch()
        return folder

    return train_once
