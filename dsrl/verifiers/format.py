"""Verifier `format`: the tags that a response should have."""

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
    """Score 1 where the response has the form that `layout` names, else 0. It reads no ground truth.

    - `think_answer`: <think>...</think>, then <answer>...</answer>, and nothing but whitespace outside of them. This is
      the form that DeepSeek-R1-Zero was asked for (arXiv 2501.12948, table 1).
    - `think`: <think>...</think>, then the answer without tags.

    Each tag must occur once, and neither the thought nor the answer may be empty. Where the prompt itself ends with
    <think>, as some chat templates make it, the response continues from there and needs no opening tag.
    """

    layout: str = "think_answer"
    """`think_answer` or `think`."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigError(
                f"verifier format: layout={self.layout}: allowed are {', '.join(LAYOUTS)}."
                f"{nearest(self.layout, LAYOUTS)}"
            )

    def score_one(self, response: str, prompt: Prompt) -> float:
        """Return 1.0 or 0.0."""
        text = f"<think>{response}" if prompt.text.rstrip().endswith("<think>") else response
        thought, rest = _tagged(text, "think")
        if self.layout == "think":
            return float(bool(thought and rest))
        answer, rest = _tagged(rest, "answer")
        return float(bool(thought and answer and not rest) and "answer>" not in thought)

    def extract_answer(self, response: str) -> str:
        """Return the text between the last <answer> tags, else the text after the thought, else the whole response."""
        if "</answer>" in response:
            return response.rpartition("</answer>")[0].rpartition("<answer>")[2].strip()
        return response.rpartition("</think>")[2].strip()


def _tagged(text: str, tag: str) -> tuple[str, str]:
    """Split a text that begins with a tag into the text inside the tag and the text after it, both stripped.

    Both are empty where the text does not begin with the tag, or holds it another number of times than once.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    text = text.strip()
    if not text.startswith(opening) or text.count(opening) != 1 or text.count(closing) != 1:
        return "", ""
    inside, _, after = text[len(opening) :].partition(closing)
    return inside.strip(), after.strip()
