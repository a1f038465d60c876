"""Keys of earlier versions: what they are called now, in messages and in what earlier versions wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "refill": "dynamic_sampling",
    "samples_per_iteration": "logged_samples",
    "update.max_tokens": "update.micro_batch_tokens",
    "sampler.sleep": "sampler.sleep_level",
    "sampler.batch_size": "sampler.max_batch_total_tokens",
}
"""A key of an earlier version, and what it is called now."""

OTHER_UNITS = {"sampler.batch_size": "tokens, prompts included, instead of responses"}
"""Keys whose values count something else under their new names, and what; a value that was written is dropped."""

OWNERS = {"sampler.sleep": "vllm", "sampler.batch_size": "hf"}
"""The part whose key it was; others may have keys of that name."""


REPLACED = {
    "model.reflection": "thoughts: thoughts=seal and thoughts=words have words of their own, "
    "'thoughts={name: pattern, classes: {reflection: PATTERN}}' counts matches of a regular expression",
}
"""A key of an earlier version, and what has taken its place."""


def in_todays_words(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of a configuration of plain values that an earlier version wrote; others stay as they are.

    What was counted as `model.reflection` is counted by `thoughts`, all tokens count in objectives of parts, and newer
    keys of data have their default.
    """
    found: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in saved.items()}
    for old, new in RENAMED.items():
        section, _, last = old.rpartition(".")
        holder = found.get(section) if section else found
        if not isinstance(holder, dict) or last not in holder or (old in OWNERS and holder["name"] != OWNERS[old]):
            continue
        renamed = {
            new.rpartition(".")[2] if key == last else key: value
            for key, value in holder.items()
            if not (key == last and old in OTHER_UNITS)
        }
        if section:
            found[section] = renamed
        else:
            found = renamed
    for holder in (found, *(found.get(key) for key in ("phase2", "phase3", "phase4", "phase5"))):
        if not isinstance(holder, dict):
            continue
        objective = holder.get("objective")
        if isinstance(objective, Mapping) and "aggregate" in objective:  # of parts: all tokens counted
            holder["objective"] = {"token_weight": "all", **objective}
    data = found.get("data")
    if isinstance(data, dict) and data.get("name") in ("questions", "parquet"):
        found["data"] = {"last_turn": "auto", **data}
    model = found.get("model")
    if isinstance(model, dict) and "reflection" in model:
        counted = {"name": "pattern", "classes": {"reflection": model.pop("reflection")}}
        model["thoughts"] = counted
        found.setdefault("thoughts", counted)
    return found
