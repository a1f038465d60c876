"""An entry of `data.train` or `data.val` that holds records: a file, a folder, or a data set on the hub."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dsrl.data.benchmarks import BENCHMARKS
from dsrl.data.files import READABLE, file_records, suffix_of
from dsrl.data.hub import hub_records, is_dataset
from dsrl.data.rows import Schema, read_rows
from dsrl.data.source import Row
from dsrl.errors import nearest
from dsrl.registry import names

COLUMNS = ("question", "answer", "answer_after")
"""Parameters of an entry that say in which columns its records hold what; see `Schema`."""

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""A data set on the hub: owner/name."""


@dataclass(kw_only=True)
class RecordSet:
    """Read the records of an entry: of a file, a folder or a data set on the hub."""

    path: str
    """A file, a folder or a name on the hub."""
    set: str = ""
    """The name of the validation set, and the data source of rows that name none; by default the file's name."""
    split: str | None = None
    """The split of a data set."""
    config: str | None = None
    """The configuration of a data set on the hub."""
    revision: str | None = None
    """A branch, tag or commit of a data set on the hub."""
    question: str | None = None
    """Another column that holds the question; see `Schema`."""
    answer: str | None = None
    """Another column that holds the ground truth; see `Schema`."""
    answer_after: str | None = None
    """A mark after which the ground truth stands; see `Schema`."""
    proposed: Mapping[str, str] = field(default_factory=dict)
    """Parameters of a benchmark on the hub, which may not fit a copy of it."""
    instruction: str | None = None
    """The system message of a benchmark's questions, if they are text."""

    def __post_init__(self) -> None:
        """Name the set after its path."""
        name = Path(self.path).name
        self.set = self.set or (name[: -len(suffix_of(name) or "")] if suffix_of(name) else Path(name).stem)

    @property
    def is_file(self) -> bool:
        """Tell whether the path is that of a file, by its ending."""
        return suffix_of(self.path) is not None

    def rows(self, default_split: str, broken: str, last_turn: str) -> list[Row]:
        """Read the rows, in order.

        `default_split` is the split if none is given; `broken` is `skip` or `refuse` (see `read_rows`), `last_turn` one
        of `LAST_TURNS`.
        """
        columns = {key: getattr(self, key) for key in COLUMNS if getattr(self, key) is not None}
        proposed = {key: self.proposed[key] for key in COLUMNS if key in self.proposed and not columns}
        schema = Schema(**columns, **proposed, or_default=bool(proposed), last_turn=last_turn)
        if self.is_file:
            records = file_records(Path(self.path).expanduser())
        else:
            records = hub_records(
                self.path,
                config=self.config or self.proposed.get("config"),
                split=self.split,
                default_split=self.proposed.get("split", default_split),
                revision=self.revision,
            )
        rows = read_rows(records, name=self.set, origin=self.path, schema=schema, broken=broken)
        return [_instructed(row, self.instruction) for row in rows] if self.instruction else rows

    def problem(self) -> str | None:
        """Say why the records certainly cannot be read, without reading them; None if they may be there."""
        path = Path(self.path).expanduser()
        if self.is_file:
            if path.exists() and not path.is_file():
                return "is not a file"
            if not path.exists():
                return f"no such file (relative paths start at {Path.cwd()})"
            if given := [key for key in ("split", "config", "revision") if getattr(self, key) is not None]:
                return f"a file has no {' or '.join(given)}"
        elif path.is_file():
            return f"expected one of {READABLE}, or a folder"
        elif path.is_dir():
            if not is_dataset(path):
                return (
                    f"expected one of {READABLE}, a folder that `save_to_disk` wrote, or a downloaded copy "
                    "of a repository of the hub"
                )
        elif not HUB_NAME.fullmatch(self.path):
            known = [*BENCHMARKS, *names("data")]
            return (
                f"no such file, folder, benchmark or data source ({', '.join(known)}); a data set of the hub is "
                f"written owner/name.{nearest(self.path, known)}"
            )
        return None


def _instructed(row: Row, instruction: str) -> Row:
    """Put the instruction before the question as a system message; a row whose question is a chat stays as it is."""
    if not isinstance(row.question, str):
        return row
    chat = [{"role": "system", "content": instruction}, {"role": "user", "content": row.question}]
    return dataclasses.replace(row, question=chat)
