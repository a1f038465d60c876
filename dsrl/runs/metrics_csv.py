"""metrics.jsonl as a table, `logger=local`: a row for each of its lines, whenever a run ends and however it goes on."""

from __future__ import annotations

import csv
import io
import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from dsrl.runs.lines import Line, read_lines, text_of
from dsrl.storage.atomic import atomic
from dsrl.storage.disk_errors import writing


class MetricsCSV(CSVLogger):
    """Write metrics.csv after metrics.jsonl, when RunFolder says so. Lightning's CSVLogger deletes what is there.

    Columns are in the order in which they come. A line with a new one, such as the first of a phase, has the file
    written anew, and so has a start: a kill between the two files, or in the middle of a row, is made good.
    """

    def __init__(self, save_dir: str, name: str = "csv", version: str = "") -> None:
        super().__init__(save_dir, name, version)
        self._columns: list[str] | None = None  # of the file; None until it is written by this process

    @property
    def experiment(self) -> Any:
        """This logger itself: Lightning's object deletes the table that is there."""
        return self

    @property
    def file(self) -> Path:
        """The table."""
        return Path(self.log_dir) / "metrics.csv"

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Write them to hparams.yaml."""
        path = Path(self.log_dir) / "hparams.yaml"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_hparams_to_yaml(path, params or {})

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Do nothing: `follow` has more, and in the right order."""

    def save(self) -> None:
        """Do nothing: each row is on disk."""

    def finalize(self, status: str) -> None:
        """Do nothing."""

    def follow(self, source: Path, added: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Write the rows that have been added to a file of lines; all of them where it has been written anew.

        Args:
            source: metrics.jsonl.
            added: lines that it has got; None where others may have changed.
        """
        if added is None or self._columns is None or any(key not in self._columns for line in added for key in line):
            self._write_anew(read_lines(source))
            return
        rows = self._rows([json.loads(text_of(line)) for line in added])
        with writing(self.file), self.file.open("a", encoding="utf-8", newline="") as file:
            file.write(rows)

    def _write_anew(self, lines: Sequence[Line]) -> None:
        self._columns = [*dict.fromkeys(key for line in lines for key in line)]
        if not lines:
            self.file.unlink(missing_ok=True)
            return
        head = dict(zip(self._columns, self._columns, strict=True))
        with atomic(self.file) as partial:
            partial.write_text(self._rows([head, *lines]), encoding="utf-8", newline="")

    def _rows(self, lines: Sequence[Line]) -> str:
        assert self._columns is not None
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(lines)
        return text.getvalue()
