"""What the loop asks of a data source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsrl.data.encoding import Messages


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One question: text or chat messages, its ground truth, where it comes from, and whatever else its row held."""

    question: str | Messages
    answer: str
    data_source: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class DataSource(ABC):
    """Base of data sources.

    system_prompt: put before chats without one. max_prompt_tokens: longer prompts lose their beginning.
    """

    system_prompt: str | None = None
    max_prompt_tokens: int = 1024

    @abstractmethod
    def train_rows(self) -> Sequence[Row]:
        """The rows to train on. Called once a rank. Raises ConfigError for rows that cannot be used."""

    @abstractmethod
    def val_sets(self) -> Mapping[str, Sequence[Row]]:
        """Validation sets by name; none is fine."""

    def check(self) -> list[str]:
        """Problems that can be seen without loading, such as missing files."""
        if self.max_prompt_tokens < 1:
            return [f"data.max_prompt_tokens must be at least 1, not {self.max_prompt_tokens}"]
        return []
