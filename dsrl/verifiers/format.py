"""Whether a response keeps to the form that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from dsrl.errors import ConfigError, nearest
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.verifier import Verifier

LAYOUTS = ("think_answer", "think")


@register("verifier", "format")
@dataclass(kw_only=True)
class Format(Verifier):
    """1 where the response has the form of `layout`, else 0.

    `think_answer`: <think>...</think>, then <answer>...</answer>, and nothing but whitespace outside (what
    DeepSeek-R1-Zero was asked for, arXiv 2501.12948, table 1). `think`: <think>...</think>, then the answer as it is.
    Each tag occurs once, and nothing is empty. Where the prompt itself ends with <think>, as some chat templates do,
    the response goes on from there.
    """

    layout: str = "think_answer"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigError(
                f"verifier format: layout={self.layout}: allowed are {', '.join(LAYOUTS)}."
                f"{nearest(self.layout, LAYOUTS)}"
            )

    def score_one(self, response: str, prompt: Prompt) -> float:
        """1.0 or 0.0."""
        text = f"<think>{response}" if prompt.text.rstrip().endswith("<think>") else response
        thought, rest = _tagged(text, "think")
        if self.layout == "think":
            return float(bool(thought and rest))
        answer, rest = _tagged(rest, "answer")
        return float(bool(thought and answer and not rest) and "answer>" not in thought)

    def extract_answer(self, response: str) -> str:
        """What is between the last <answer> tags, else what follows the thought, else everything."""
        if "</answer>" in response:
            return response.rpartition("</answer>")[0].rpartition("<answer>")[2].strip()
        return response.rpartition("</think>")[2].strip()


def _tagged(text: str, tag: str) -> tuple[str, str]:
    """What is between the tags that `text` begins with, and what follows, both stripped; nothing without one pair."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    text = text.strip()
    if not text.startswith(opening) or text.count(opening) != 1 or text.count(closing) != 1:
        return "", ""
    inside, _, after = text[len(opening) :].partition(closing)
    return inside.strip(), after.strip()
