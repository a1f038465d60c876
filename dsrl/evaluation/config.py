"""The checked configuration of an evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dsrl.config.build import built_fields, without_value
from dsrl.config.checks import (
    ACCELERATORS,
    folder_problem,
    model_problems,
    not_allowed,
    not_finite,
    sampling_problems,
)
from dsrl.config.compose import compose_tree, composing
from dsrl.config.explain import options
from dsrl.config.renamed import in_todays_words
from dsrl.config.schema import ModelConfig, SamplingConfig
from dsrl.config.settled import Settled
from dsrl.data.source import DataSource
from dsrl.errors import ConfigError
from dsrl.evaluation.evaluated_model import spelled_for_evaluation
from dsrl.evaluation.schema import EvaluationSchema
from dsrl.runs.resume import differences
from dsrl.samplers import Sampler


@dataclass(kw_only=True)
class EvaluationConfig(Settled):
    """What an evaluation needs. `dsrl.evaluation.schema` says what its fields mean; they cannot be set.

    `resolved` is the configuration as plain values, what config.yaml holds.
    """

    model: ModelConfig
    data: DataSource
    sampler: Sampler
    verifier: Any
    sampling: SamplingConfig
    checkpoint: str | None
    k: int | None
    limit: int | None
    questions_per_batch: int
    accelerator: str
    seed: int
    run_dir: Path
    resume: str | None
    resolved: dict[str, Any]

    @classmethod
    def of(cls, overrides: Sequence[str] = ()) -> EvaluationConfig:
        """Compose, build and check. `resume=FOLDER` goes on there; alone, with the configuration that lies there.

        Raises ConfigError with every problem found, one a line.
        """
        given = [text.partition("=")[2] for text in overrides if text.startswith("resume=")]
        if len(given) > 1:
            raise ConfigError(f"resume is given {len(given)} times: {', '.join(given)}; give it once")
        if given in ([], ["null"]):
            return cls._of(compose_evaluation(overrides))
        (resume,) = given
        folder = Path(resume).expanduser()
        saved = _saved(folder)
        others = [text for text in overrides if not text.startswith("resume=")]
        if others:
            asked: Any = OmegaConf.to_container(compose_evaluation(others), resolve=True)
            before: Any = OmegaConf.to_container(saved, resolve=True)
            if changed := [
                f"{key}: {old!r} in the evaluation, {new!r} now"
                for key, old, new in differences(before, asked)
                if key not in ("run_dir", "resume")
            ]:
                head = (
                    f"resume={resume}: it was begun with another configuration; resume={resume} alone goes on with it"
                )
                raise ConfigError("\n".join([head, *changed]))
        saved.run_dir, saved.resume = str(folder), resume
        return cls._of(saved)

    @property
    def label(self) -> str:
        """The model that is evaluated: its name, or the checkpoint."""
        return self.checkpoint or self.model.name

    @classmethod
    def _of(cls, composed: DictConfig) -> EvaluationConfig:
        if unset := [*without_value(composed)]:
            raise ConfigError("\n".join(unset))
        problems: list[str] = []
        fields = built_fields(composed, problems)
        if problems:
            raise ConfigError("\n".join(problems))
        config = cls(**{field.name: fields[field.name] for field in dataclasses.fields(cls)})
        if wrong := [*_problems(config)]:
            raise ConfigError("\n".join(dict.fromkeys(wrong)))
        return config


def compose_evaluation(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the typed tree of an evaluation. Raises ConfigError with every problem found, one a line."""
    ConfigStore.instance().store(name="evaluate_schema", node=EvaluationSchema)
    with composing():
        return compose_tree(spelled_for_evaluation(overrides, options("model")), root="evaluate")


def in_use(run_dir: Path) -> str:
    """Say that another evaluation has a folder."""
    return f"run_dir={run_dir}: is in use; choose another, or go on with the evaluation there by resume={run_dir}"


def _saved(folder: Path) -> DictConfig:
    try:
        saved = in_todays_words(OmegaConf.load(folder / "config.yaml"))  # type: ignore[arg-type]
        merged = OmegaConf.merge(OmegaConf.structured(EvaluationSchema), saved)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(
            f"resume={folder}: no evaluation there (no config.yaml, which is written with the first samples)"
        ) from error
    except (OmegaConfBaseException, ValueError, YAMLError) as error:
        raise ConfigError(f"resume={folder}: its config.yaml is not that of an evaluation") from error
    assert isinstance(merged, DictConfig)
    return merged


def _problems(config: EvaluationConfig) -> Iterator[str]:
    yield from not_finite(config.resolved)
    yield from model_problems(config.model)
    yield from sampling_problems("sampling", config.sampling, config.sampler, greedy=True)
    yield from not_allowed([("accelerator", config.accelerator, ACCELERATORS)])
    if config.checkpoint is not None and not Path(config.checkpoint).expanduser().exists():
        yield f"checkpoint={config.checkpoint}: no such checkpoint"
    for key in ("k", "limit", "questions_per_batch"):
        value = getattr(config, key)
        if value is not None and value < 1:
            yield f"{key}={value}: must be at least 1"
    if config.seed < 0:
        yield f"seed={config.seed}: must be at least 0"
    for part in (config.data, config.sampler, config.verifier):
        yield from getattr(part, "check", list)()
    if problem := folder_problem(config.resolved["run_dir"]):
        yield problem
    elif config.resume is None and (config.run_dir / "config.yaml").exists():
        yield in_use(config.run_dir)
