"""Verifier `by_source`: another verifier for each data source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dsrl.errors import ConfigError, nearest
from dsrl.registry import build, register
from dsrl.types import Prompt
from dsrl.verifiers.routing import Routing
from dsrl.verifiers.verifier import APPLICABLE, RESERVED


@register("verifier", "by_source")
@dataclass(kw_only=True)
class BySource(Routing):
    """Score each response by the verifier that is set for the `data_source` of its row.

    A key of `sources` that ends in `*` fits all data sources that begin with the text before it. Of several keys that
    fit, the longest counts, and the data source itself most.

    The mean reward of each key of `sources`, over the responses of its own rows, is logged as `reward/KEY`, without
    `/*` at the end of the key, and that of `default` as `reward/other`. Where that name is taken, by another key or by
    the whole reward, the ending stays: `reward/KEY/*`, or `reward/*` for the default.

    A row whose data source has no verifier is an error, unless there is a default.
    """

    sources: Any = field(default_factory=dict)
    """{DATA_SOURCE: verifier}, where a verifier is NAME or {name: NAME, parameter: value}."""
    default: Any = None
    """The verifier of all other data sources; null: there is none."""

    def __post_init__(self) -> None:
        """Build the verifiers, so that a misspelt one is refused before anything is loaded."""
        super().__post_init__()
        if not isinstance(self.sources, Mapping) or not self.sources:
            raise ConfigError(
                f"verifier by_source: sources must be a mapping, {{DATA_SOURCE: verifier}}, not {self.sources!r}"
            )
        self._parts = {str(source): build("verifier", spec) for source, spec in self.sources.items()}
        if self.default is not None:
            if "*" in self._parts:
                raise ConfigError("verifier by_source: sources has '*', for all others, and default is set: drop one")
            self._parts["*"] = build("verifier", self.default)
        for source in (*RESERVED, APPLICABLE):
            if source in self._parts:
                raise ConfigError(
                    f"verifier by_source: a source cannot be called '{source}': reward/{source} is a metric already; "
                    f"write '{source}*'"
                )
        self._labels = _labels(self._parts)

    def route(self, prompt: Prompt) -> str:
        """Choose the key of `sources` that fits the prompt's data source best."""
        source = prompt.data_source
        fitting = [key for key in self._parts if key == source or (key.endswith("*") and source.startswith(key[:-1]))]
        if not fitting:
            known = list(self._parts)
            raise ConfigError(
                f"verifier by_source has none for data source '{source}'; it has {', '.join(known)}. Add it to "
                f"verifier.sources, or set verifier.default.{nearest(source, known)}"
            )
        return max(fitting, key=lambda key: (key == source, len(key)))


def _labels(keys: Iterable[str]) -> dict[str, str]:
    """Return the metric's name of each key: its short form, unless another key or the whole reward has that name."""
    short = {key: "other" if key == "*" else key.rstrip("*/") for key in keys}
    counts = Counter([*short.values(), *RESERVED, APPLICABLE, ""])
    return {key: label if label == key or counts[label] == 1 else key for key, label in short.items()}
