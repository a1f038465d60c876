"""The base class of data sources, and the rows that they give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Messages = Sequence[Mapping[str, str]]
"""A chat: a role and a content each."""

OVERLONG = ("cut", "drop")
"""What may be done with a prompt that is too long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One record of the data: a question and its ground truth."""

    question: str | Messages
    """Text, or chat messages."""
    ground_truth: str
    """What verifiers compare with, as text."""
    structured_ground_truth: Any = None
    """The ground truth as the record held it, if that was a mapping or a list."""
    data_source: str
    """Where the row comes from, such as `openai/gsm8k`; `verifier=by_source` chooses by it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that the record held."""
    place: str = field(default="", compare=False)
    """Where the record stands, such as `FILE, line 3`; for messages."""

    @property
    def question_text(self) -> str:
        """The question without system messages. Two rows that ask the same have it in common."""
        if isinstance(self.question, str):
            return self.question.strip()
        return "\n".join(str(message["content"]) for message in self.question if message["role"] != "system").strip()


@dataclass(kw_only=True)
class DataSource(ABC):
    """Provide rows to train on and to validate on, and say how their questions become prompts.

    To write one, register a subclass that has `train_rows` and `val_sets`.
    """

    system_prompt: str | None = None
    """Put before chats that have no system message."""
    template: str | None = None
    """Text around a question, with `{question}` in it, for models without a chat template."""
    max_prompt_tokens: int = 1024
    """The most tokens that a prompt may have."""
    overlong: str = "cut"
    """What is done with longer prompts. `cut` drops their beginning. `drop` leaves them out of training, and cuts them
    in validation, so that its questions are the same for every model."""
    shuffle: bool = True
    """Draw the rows in a fresh order each time that all have been used; otherwise they keep their own."""

    @abstractmethod
    def train_rows(self) -> Sequence[Row]:
        """Return the rows to train on, or a `Mixture` of them. Called once on each rank.

        Raises ConfigError if there are none that can be used.
        """

    @abstractmethod
    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """Return the rows of each validation set by its name; an empty mapping means no validation."""

    def val_names(self) -> list[str] | None:
        """Name the validation sets without reading them; None where the names are not known before."""
        return None

    def check(self) -> list[str]:
        """List the problems that can be seen without reading the rows, such as missing files."""
        problems = []
        if self.max_prompt_tokens < 1:
            problems.append(f"data.max_prompt_tokens must be at least 1, not {self.max_prompt_tokens}")
        if self.overlong not in OVERLONG:
            problems.append(f"data.overlong={self.overlong}: allowed are {', '.join(OVERLONG)}")
        if self.template is not None and "{question}" not in self.template:
            problems.append(f"data.template={self.template!r}: must contain {{question}}")
        return problems

    def check_training(self) -> list[str]:
        """List the problems that matter in training alone, such as nothing to train on."""
        return []
