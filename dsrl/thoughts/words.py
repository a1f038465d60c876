"""Words and phrases by which a model reconsiders, or tries something else, by language."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dsrl.errors import ConfigError, nearest
from dsrl.registry import register
from dsrl.thoughts.pattern import matches_of
from dsrl.thoughts.thoughts import Thought, Thoughts

WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "reflection": (
            r"\bwait\b",
            r"\bhold on\b",
            r"\bhmm+\b",
            r"\blet(?: me|'s|’s| us) (?:re-?|double-?|cross-?)?(?:check|verify|examine)\b",
            r"\b(?:double|cross)-?\s?check(?:ing)?\b",
            r"\bre-?(?:check|examine|consider|think|calculat|comput|evaluat|read)(?:e|ing)?\b",
            r"\b(?:think|look|check) (?:\w+ ){0,2}again\b",
            r"\bon second thought\b",
            r"\b(?:i|we)(?: have|'ve|’ve)? (?:made|make) a mistake\b",
            r"\bmake sure\b",
            r"\bis (?:that|this) (?:right|correct)\b",
        ),
        "transition": (
            r"\balternatively\b",
            r"\b(?:another|a different|an alternative|a better) "
            r"(?:way|approach|method|solution|strategy|technique|idea)\b",
            r"\bthink differently\b",
            r"\b(?:let me|let's|let’s) try (?:something else|again)\b",
            r"\bstart over\b",
        ),
    },
    "zh": {
        "reflection": (
            r"等等|等一下|稍等|且慢",
            r"(?:让我|我们?)?(?:再次|再|重新|仔细)(?:检查|验证|验算|核对|核实|确认|考虑|思考|审视|想想|想一想|看看|计算)(?:一下|一遍)?",
            r"让我(?:检查|验证|验算|核对|核实|确认)(?:一下|一遍)?",
            r"(?:检查|验证|验算|核对)(?:一下|一遍)",
            r"不对[，。！,.!]",
            r"(?:算|弄|搞|想)错了",
        ),
        "transition": (
            r"(?:另|换)(?:外)?(?:一种|一个|种|个)(?:方法|思路|方式|办法|做法|解法|角度|策略)",
            r"(?:其他|别的|不同的)(?:方法|思路|方式|办法|做法|解法|角度|策略)",
            r"(?m:^)或者",
        ),
    },
}
"""Regular expressions by language and class."""


@register("thoughts", "words")
@dataclass(kw_only=True)
class Words(Thoughts):
    """Count words and phrases of reflection ("wait", "let me check", 等等) and of transition ("alternatively", "another
    way", 换一种方法). Each counts by itself, wherever it stands.
    """

    languages: list[str] = field(default_factory=lambda: list(WORDS))
    """Languages whose words count."""

    def __post_init__(self) -> None:
        for language in self.languages:
            if language not in WORDS:
                known = ", ".join(WORDS)
                raise ConfigError(
                    f"languages: there are words of {known}, not of {language}.{nearest(language, WORDS)}"
                )
        if not self.languages:
            raise ConfigError(f"languages=[]: give at least one of {', '.join(WORDS)}")
        self._patterns = {
            name: re.compile("|".join(word for key in self.languages for word in WORDS[key][name]), re.IGNORECASE)
            for name in self.class_names
        }

    @property
    def class_names(self) -> tuple[str, ...]:
        """See the base class."""
        return ("reflection", "transition")

    def split(self, text: str) -> list[Thought]:
        """See the base class."""
        return matches_of(self._patterns, text)
