"""`compare=MODEL` of an evaluation: the other model answers the same questions, in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dsrl.errors import ConfigError
from dsrl.evaluation.config import EvaluationConfig, compose_evaluation

FOLDER = "compared"
"""Where the other model's evaluation is, in the folder of the evaluation that is compared with it."""


def is_evaluation(path: Path) -> bool:
    """Tell whether a folder is one of an evaluation, and not that of a run or of a model."""
    return (path / "samples.jsonl").is_file() and not (path / "metrics.jsonl").exists()


def config_of_other(config: EvaluationConfig, other: str, overrides: Sequence[str] = ()) -> EvaluationConfig:
    """Make the configuration of another model's evaluation: everything but the model is that of `config`.

    Where the folder for it holds answers of that model already, the evaluation goes on with them.

    Args:
        config: of the evaluation that is compared.
        other: what `model=` takes: a run, a checkpoint, a folder or a name.
        overrides: of that evaluation's command line, of which `model.KEY` hold for the other model, too.

    Raises:
        ConfigError: there is no such model, or the folder holds the answers of another one.
    """
    settings = [text for text in overrides if text.startswith("model.") and not text.startswith("model.name=")]
    try:
        composed: Any = OmegaConf.to_container(compose_evaluation([f"model={other}", *settings]), resolve=True)
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"model={other}:", f"compare={other}:")) from error
    folder = config.run_dir / FOLDER
    model = {key: composed[key] for key in ("model", "checkpoint")}
    path = folder / "config.yaml"
    saved: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else None
    if saved is not None and any(saved[key] != model[key] for key in model):
        raise ConfigError(f"compare={other}: {folder} holds the answers of another model; choose another run_dir")
    resume = None if saved is None else str(folder)
    return EvaluationConfig.of_resolved({**config.resolved, **model, "run_dir": str(folder), "resume": resume})
