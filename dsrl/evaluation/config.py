"""The checked configuration of an evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dsrl.config.build import built_fields, without_value
from dsrl.config.chat_date import with_chat_date
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
from dsrl.devices import device_type
from dsrl.errors import ConfigError
from dsrl.evaluation.evaluated_model import spelled_for_evaluation
from dsrl.evaluation.schema import EvaluationSchema
from dsrl.runs.resume import differences
from dsrl.samplers import Sampler
from dsrl.thoughts import Thoughts


@dataclass(kw_only=True)
class ModelConfigured(Settled):
    """What an evaluation of a model needs, and a measurement of it, too.

    `resolved` is the configuration as plain values.
    """

    model: ModelConfig
    data: DataSource
    sampler: Sampler
    verifier: Any
    sampling: SamplingConfig
    checkpoint: str | None
    accelerator: str
    seed: int
    resolved: dict[str, Any]

    @property
    def label(self) -> str:
        """The model: its name, or the checkpoint."""
        return self.checkpoint or self.model.name


@dataclass(kw_only=True)
class EvaluationConfig(ModelConfigured):
    """What an evaluation needs. `dsrl.evaluation.schema` says what its fields mean; they cannot be set.

    `resolved` is the configuration as plain values, what config.yaml holds.
    """

    thoughts: Thoughts
    k: int | None
    limit: int | None
    questions_per_batch: int | None
    devices: int
    run_dir: Path
    resume: str | None

    @classmethod
    def of(cls, overrides: Sequence[str] = ()) -> EvaluationConfig:
        """Compose, build and check. `resume=FOLDER` goes on there; alone, with the configuration that lies there.

        An evaluation may go on with another number of `devices`.

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
        moved = [text for text in overrides if text.lstrip("+").startswith("devices=")]
        others = [text for text in overrides if not text.startswith("resume=") and text not in moved]
        if others:
            asked: Any = OmegaConf.to_container(compose_evaluation(others), resolve=True)
            before: Any = OmegaConf.to_container(saved, resolve=True)
            if changed := [
                f"{key}: {old!r} in the evaluation, {new!r} now"
                for key, old, new in differences(before, asked)
                if key not in ("run_dir", "resume", "devices") and (key, new) != ("model.chat_date", None)
            ]:
                head = (
                    f"resume={resume}: it was begun with another configuration; resume={resume} alone goes on with it"
                )
                raise ConfigError("\n".join([head, *changed]))
        saved.run_dir, saved.resume = str(folder), resume
        if moved:
            saved.devices = compose_evaluation(moved).devices
        return cls._of(saved)

    @classmethod
    def of_resolved(cls, resolved: Mapping[str, Any]) -> EvaluationConfig:
        """Build and check a configuration of plain values, as `resolved` holds them. Raises ConfigError."""
        composed = OmegaConf.merge(OmegaConf.structured(EvaluationSchema), dict(resolved))
        assert isinstance(composed, DictConfig)
        return cls._of(composed)

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
        return with_chat_date(config)


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


def common_problems(config: ModelConfigured) -> Iterator[str]:
    """Find what is wrong with the model and the parts of an evaluation, or of a measurement."""
    yield from not_finite(config.resolved)
    yield from model_problems(config.model)
    yield from not_allowed([("accelerator", config.accelerator, ACCELERATORS)])
    if config.checkpoint is not None and not Path(config.checkpoint).expanduser().exists():
        yield f"checkpoint={config.checkpoint}: no such checkpoint"
    if not config.sampler.on_policy:
        yield "sampler=replay: responses of the model itself are needed; choose a sampler that draws them"
    for part in (config.data, config.sampler, config.verifier):
        yield from getattr(part, "check", list)()
    yield from getattr(config.sampler, "check_machine", list)()


def _problems(config: EvaluationConfig) -> Iterator[str]:
    yield from common_problems(config)
    yield from sampling_problems("sampling", config.sampling, config.sampler, greedy=True)
    for key in ("k", "limit", "questions_per_batch", "devices"):
        value = getattr(config, key)
        if value is not None and value < 1:
            yield f"{key}={value}: must be at least 1"
    yield from _device_problems(config)
    if config.seed < 0:
        yield f"seed={config.seed}: must be at least 0"
    if problem := folder_problem(config.resolved["run_dir"]):
        yield problem
    elif config.resume is None and (config.run_dir / "config.yaml").exists():
        yield in_use(config.run_dir)


def _device_problems(config: EvaluationConfig) -> Iterator[str]:
    kind = device_type(config.accelerator)
    if config.devices == 1 or kind == "cpu":
        return
    if kind != "cuda":
        yield f"devices={config.devices}: an evaluation shares out GPUs of CUDA, or a CPU; leave it 1 on {kind}"
        return
    each, there = devices_of_a_worker(config.sampler), torch.cuda.device_count()
    if config.devices * each > there:
        of_each = f", each of sampler.tensor_parallel_size={each}" if each > 1 else ""
        yield f"devices={config.devices}{of_each}: there are {there} GPUs; give at most {there // each}"


def devices_of_a_worker(sampler: Sampler) -> int:
    """Count the GPUs on which a sampler computes: more than one for a tensor-parallel engine."""
    return int(getattr(sampler, "tensor_parallel_size", 1))
