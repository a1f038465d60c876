"""Load a model of which each rank keeps a part. No rank holds the full model, if it lies in safetensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel

from dsrl.config.schema import ModelConfig
from dsrl.errors import ConfigError
from dsrl.models.buffers import persistent_buffers
from dsrl.models.loading import compute_of, load_architecture, load_model, prepare, source_of, weights_apart
from dsrl.models.lora import ADAPTER, initialize_adapters, name_without_adapters
from dsrl.parallel.sharding import copy_weights, unwrapped
from dsrl.storage.safetensors_files import read_tensors, tensors_in


def blocks(model: nn.Module) -> list[nn.Module]:
    """List the transformer blocks, the units in which weights are gathered; FSDP2 makes them a class of its own."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [module for module in model.modules() if names & {kind.__name__ for kind in type(module).__mro__}]


def model_without_weights(config: ModelConfig) -> PreTrainedModel:
    """Build the model in training mode on the meta device: its parameters have shapes and no memory."""
    source = source_of(config)
    model = model_of_architecture(load_architecture(config), config)
    with suppress(OSError):  # not every model has one
        model.generation_config = GenerationConfig.from_pretrained(
            source["pretrained_model_name_or_path"], revision=source.get("revision") or "main"
        )
    return model


def model_of_architecture(architecture: PreTrainedConfig, config: ModelConfig) -> PreTrainedModel:
    """Build a model of that architecture on the meta device, in training mode, with what `config` asks for."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            architecture, **compute_of(architecture, config)
        )
    return prepare(model, config)


@torch.no_grad()
def load_parts(config: ModelConfig, models: Sequence[Any], device: torch.device) -> None:
    """Give sharded models that have no weights yet their memory and their weights. Every rank calls it.

    If the model's safetensors hold its parameters by name, each rank reads its own parts. Otherwise (GGUF, other
    names) rank 0 reads the full model and hands out the parts.

    Args:
        config: which model.
        models: copies of it, each made by `model_without_weights` and sharded in the same way.
        device: where the parts go.
    """
    for model in models:
        model.to_empty(device=device)
        model.tie_weights()
        for module in model.modules():
            if module._buffers:  # rotary frequencies, which no file holds
                model._init_weights(module)
    first = models[0]
    parts = {
        name_without_adapters(name): tensor
        for name, tensor in (*first.named_parameters(), *persistent_buffers(first))
        if not ADAPTER.match(name)
    }
    folder = _safetensors(config)
    if folder is not None and (apart := _untied(folder, first)):
        raise ConfigError(weights_apart(config, *apart))
    if folder is not None and _hold(folder, parts):
        read_tensors(folder, parts)
    else:
        full = load_model(config).state_dict() if dist.get_rank() == 0 else {}
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
        set_model_state_dict(first, full, options=options)
    initialize_adapters(first)
    for model in models[1:]:
        copy_weights(first, model)
        for (_, buffer), (_, its_copy) in zip(persistent_buffers(first), persistent_buffers(model), strict=True):
            its_copy.copy_(buffer)


def _safetensors(config: ModelConfig) -> Path | None:
    """Find the folder of the model's safetensors, downloaded if it is on the hub; None if there are none."""
    source = source_of(config)
    folder = Path(source["pretrained_model_name_or_path"])
    if not folder.is_dir():
        folder = Path(snapshot_download(str(folder), revision=source["revision"], allow_patterns="model*.safetensors*"))
    return folder if any(folder.glob("*.safetensors")) else None


def _untied(folder: Path, model: Any) -> tuple[str, str] | None:
    """Name two weights that the model ties, and that the files hold with different values; None if there are none."""
    held = tensors_in(folder)
    for one, other in unwrapped(model).all_tied_weights_keys.items():
        if one not in held or other not in held:
            continue
        found = {name: torch.empty(held[name][0], dtype=held[name][1]) for name in (one, other)}
        read_tensors(folder, found)
        if not torch.equal(*found.values()):
            return one, other
    return None


def _hold(folder: Path, parts: Mapping[str, Tensor]) -> bool:
    """Tell whether the files hold every parameter and persistent buffer, in its shape."""
    held = tensors_in(folder)
    return all(name in held and held[name][0] == part.shape for name, part in parts.items())
