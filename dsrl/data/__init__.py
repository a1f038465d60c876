"""Where prompts come from: registered sources, their tokens, and which prompts come when."""

from dsrl.data import arithmetic_source, parquet
from dsrl.data.encoding import PromptEncoder
from dsrl.data.source import DataSource, Row

__all__ = ["DataSource", "PromptEncoder", "Row", "arithmetic_source", "parquet"]
