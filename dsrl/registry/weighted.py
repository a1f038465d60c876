"""Several parts with a weight each: how the members of a weighted sum are chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dsrl.errors import ConfigError
from dsrl.registry.parts import build


def build_weighted(kind: str, owner: str, entries: Any) -> dict[str, tuple[float, Any]]:
    """Build the parts of a mapping, {NAME: WEIGHT} or {LABEL: {weight, name, parameter: value}}.

    Without `name` the label is the registered name; without `weight` that is 1. Returns weight and part by label.
    Raises ConfigError, beginning with `owner`, for anything else.
    """
    if not isinstance(entries, Mapping) or not entries:
        raise ConfigError(
            f"{owner} must be a mapping, {{NAME: weight}} or {{LABEL: {{weight: ..., name: ...}}}}, not {entries!r}"
        )
    weighted = {}
    for label, entry in entries.items():
        if isinstance(entry, bool) or not isinstance(entry, int | float | Mapping):
            raise ConfigError(f"{owner}: {label} must be a weight, or {{weight: ..., parameter: value}}, not {entry!r}")
        spec = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
        weight = spec.pop("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ConfigError(f"{owner}: the weight of {label} must be a finite number, not {weight!r}")
        weighted[str(label)] = (float(weight), build(kind, {"name": label, **spec}))
    return weighted
