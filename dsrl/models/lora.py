"""Adapters: LoRA (arXiv 2106.09685) through peft, small trainable matrices beside frozen weights."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dsrl.config.schema import LoraConfig, ModelConfig
from dsrl.seeding import derive_seed

ADAPTER = re.compile(r"^(?P<layer>.*)\.lora_(?P<which>[AB])\.default\.weight$")
"""The name of an adapter's parameter, with its layer and which of the two matrices it is."""


def missing_peft(config: LoraConfig) -> str | None:
    """Say why LoRA cannot be used; None if it can, or is not asked for."""
    if config.rank and importlib.util.find_spec("peft") is None:
        return f"model.lora.rank={config.rank} needs peft: pip install 'dual-space-rl[lora]'"
    return None


def add_adapters(model: nn.Module, config: LoraConfig) -> None:
    """Put adapters into the model, in place, and freeze all else. `initialize_adapters` gives them values."""
    from peft import inject_adapter_in_model

    inject_adapter_in_model(_peft_config(config), model)


@torch.no_grad()
def initialize_adapters(model: nn.Module) -> None:
    """Set A at random and B to 0, so that the model computes what it did before.

    The values of A depend on the adapter's name alone, so every rank has the same.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    for name, parameter in model.named_parameters():
        if match := ADAPTER.match(name):
            values = torch.zeros(parameter.shape)
            if match["which"] == "A":  # uniform within 1 / sqrt(fan in), as peft's
                values.uniform_(-1, 1, generator=torch.Generator().manual_seed(derive_seed("lora", name)))
                values /= parameter.shape[1] ** 0.5
            if isinstance(parameter, DTensor):
                mesh, placements = parameter.device_mesh, parameter.placements
                values = distribute_tensor(values.to(parameter.device), mesh, placements)
            parameter.copy_(values)


def has_adapters(model: nn.Module) -> bool:
    """Tell whether adapters are beside the model's weights."""
    return any(ADAPTER.match(name) for name, _ in model.named_parameters())


def merge_adapters(model: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Merge adapters into the weights beside them, W + scaling * B A, one tensor at a time.

    Takes the model's full parameters by name, and yields those of the model without adapters by theirs.
    """
    scaling = {
        name: float(module.scaling["default"]) for name, module in model.named_modules() if hasattr(module, "lora_A")
    }
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors:
        layer, _, rest = name.rpartition(".base_layer.")
        if match := ADAPTER.match(name):
            weights[match["which"]] = tensor
            if match["which"] == "B":
                product = scaling[match["layer"]] * (weights["B"].float() @ weights["A"].float())
                yield f"{match['layer']}.weight", (weights["base"].float() + product).to(weights["base"].dtype)
        elif layer and rest == "weight":
            weights["base"] = tensor
        else:
            yield (f"{layer}.{rest}" if layer else name), tensor


def write_adapter(folder: Path, model: ModelConfig, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write the adapters into a folder that `PeftModel.from_pretrained` reads.

    Args:
        folder: an existing folder.
        model: what they were trained on, and their settings.
        tensors: the model's full parameters by name; those that are no adapter's are left out.
    """
    found = {
        f"base_model.model.{match['layer']}.lora_{match['which']}.weight": tensor.contiguous()
        for name, tensor in tensors
        if (match := ADAPTER.match(name))
    }
    save_file(found, folder / "adapter_model.safetensors")
    settings = _peft_config(model.lora)
    settings.base_model_name_or_path, settings.revision = model.name, model.revision
    settings.save_pretrained(str(folder))


def _peft_config(config: LoraConfig) -> Any:
    from peft import LoraConfig as PeftConfig

    targets = config.target_modules
    return PeftConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=targets if isinstance(targets, str) else list(targets),
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
