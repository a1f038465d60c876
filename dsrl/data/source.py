"""What the loop asks of a data source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsrl.data.encoding import Messages

OVERLONG = ("cut", "drop")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One question: text or chat messages, its ground truth, where it comes from, and whatever else its row held.

    structured_ground_truth: as the row held it, where that was a mapping or a list; `ground_truth` is it as text.
    """

    question: str | Messages
    ground_truth: str
    structured_ground_truth: Any = None
    data_source: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def question_text(self) -> str:
        """The question without system messages: what two rows have in common that ask the same."""
        if isinstance(self.question, str):
            return self.question.strip()
        return "\n".join(str(message["content"]) for message in self.question if message["role"] != "system").strip()


@dataclass(kw_only=True)
class DataSource(ABC):
    """Base of data sources.

    system_prompt: put before chats without one. template: text around a question, with `{question}` in it, for models
    without a chat. max_prompt_tokens, overlong: of longer prompts, `cut` drops the beginning; `drop` leaves them out of
    training, counted and reported, and cuts them in validation, whose questions stay the same for every model.
    shuffle: whether training draws the rows in a fresh order each time that all have been used; else they keep theirs.
    """

    system_prompt: str | None = None
    template: str | None = None
    max_prompt_tokens: int = 1024
    overlong: str = "cut"
    shuffle: bool = True

    @abstractmethod
    def train_rows(self) -> Sequence[Row]:
        """The rows to train on, or a `Mixture` of them. Called once a rank. Raises ConfigError for unusable rows."""

    @abstractmethod
    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """Validation sets by name; none is fine."""

    def check(self) -> list[str]:
        """Problems that can be seen without loading, such as missing files."""
        problems = []
        if self.max_prompt_tokens < 1:
            problems.append(f"data.max_prompt_tokens must be at least 1, not {self.max_prompt_tokens}")
        if self.overlong not in OVERLONG:
            problems.append(f"data.overlong={self.overlong}: allowed are {', '.join(OVERLONG)}")
        if self.template is not None and "{question}" not in self.template:
            problems.append(f"data.template={self.template!r}: must contain {{question}}")
        return problems

    def check_training(self) -> list[str]:
        """Problems of training alone, such as nothing to train on."""
        return []
