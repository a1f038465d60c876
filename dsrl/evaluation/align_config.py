"""The checked configuration of a measurement of alignment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from dsrl.config.build import attempt, built_fields, without_value
from dsrl.config.checks import sampling_problems
from dsrl.config.compose import compose_tree, composing
from dsrl.config.explain import options
from dsrl.errors import ConfigError
from dsrl.evaluation.config import ModelConfigured, common_problems
from dsrl.evaluation.evaluated_model import spelled_for_evaluation
from dsrl.evaluation.schema import AlignSchema
from dsrl.objectives import Objective
from dsrl.probes.alignment import Alignment
from dsrl.registry import build


@dataclass(kw_only=True)
class AlignConfig(ModelConfigured):
    """What a measurement needs. `dsrl.evaluation.schema.AlignSchema` says what its fields mean; they cannot be set."""

    objective: Objective
    limit: int
    batches: int
    k: int
    micro_batch_tokens: int
    out: str | None
    json: bool
    probe: Alignment

    @classmethod
    def of(cls, overrides: Sequence[str] = ()) -> AlignConfig:
        """Compose, build and check. Raises ConfigError with every problem found, one a line."""
        composed = compose_align(overrides)
        if unset := [*without_value(composed)]:
            raise ConfigError("\n".join(unset))
        problems: list[str] = []
        fields = built_fields(composed, problems)
        fields["objective"] = attempt(problems, build, "objective", fields["objective"])
        fields["probe"] = attempt(problems, _probe, fields["resolved"])
        if problems:
            raise ConfigError("\n".join(problems))
        config = cls(**{field.name: fields[field.name] for field in dataclasses.fields(cls)})
        if wrong := [*_problems(config)]:
            raise ConfigError("\n".join(dict.fromkeys(wrong)))
        return config


def compose_align(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the typed tree of a measurement. Raises ConfigError with every problem found, one a line."""
    ConfigStore.instance().store(name="align_schema", node=AlignSchema)
    with composing():
        return compose_tree(spelled_for_evaluation(overrides, options("model"), "data.train"), root="align")


def _probe(resolved: dict[str, Any]) -> Alignment:
    samples = resolved["samples"] or resolved["limit"] * resolved["k"]
    settings = {key: resolved[key] for key in ("levels", "groups", "known_share")}
    if 3 in settings["levels"]:
        raise ConfigError(
            f"levels={settings['levels']}: a step is taken in a run alone, +probe=alignment probe.levels=[3]; here "
            "there are 0, 1 and 2"
        )
    return Alignment(samples=max(1, samples), **settings)


def _problems(config: AlignConfig) -> Iterator[str]:
    yield from common_problems(config)
    yield from sampling_problems("sampling", config.sampling, config.sampler)
    for key in ("limit", "batches", "micro_batch_tokens"):
        if getattr(config, key) < 1:
            yield f"{key}={getattr(config, key)}: must be at least 1"
    if config.k < 2:
        yield f"k={config.k}: must be at least 2, since responses to one question are compared"
    if config.batches >= 1 and config.limit < 2 * config.batches:
        yield f"limit={config.limit}: must be at least 2 for each of batches={config.batches}, since these are halved"
    if not 0 <= config.seed < 2**32:
        yield f"seed={config.seed}: must be in [0, 2**32)"
    if config.out is not None and Path(config.out).expanduser().is_dir():
        yield f"out={config.out}: is a folder; give a file"
    yield from config.data.check_training()
