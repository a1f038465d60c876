"""LoRA (arXiv 2106.09685) through peft: small trainable matrices beside frozen weights."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dsrl.config.schema import LoraConfig
from dsrl.seeding import derive_seed

ADAPTER = re.compile(r"^(?P<layer>.*)\.lora_(?P<which>[AB])\.default\.weight$")


def missing_peft(config: LoraConfig) -> str | None:
    """Why LoRA cannot be used; None where it can, or is not asked for."""
    if config.rank and importlib.util.find_spec("peft") is None:
        return f"model.lora.rank={config.rank} needs peft: pip install 'dual-space-rl[lora]'"
    return None


def add_adapters(model: nn.Module, config: LoraConfig) -> None:
    """Put adapters into the model, in place, and freeze all else. Their values are set by `start_adapters`."""
    from peft import inject_adapter_in_model

    inject_adapter_in_model(_peft_config(config), model)


@torch.no_grad()
def start_adapters(model: nn.Module) -> None:
    """Random A, B = 0: the model as it was. The values depend on the adapter's name alone, not on ranks."""
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


def merged(model: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """From a model's whole parameters by name, those of the model without adapters: W + scaling B A."""
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


def write_adapter(folder: Path, config: LoraConfig, base: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """An adapter's folder, as `PeftModel.from_pretrained` reads it; tensors: the model's parameters by name."""
    found = {
        f"base_model.model.{match['layer']}.lora_{match['which']}.weight": tensor.contiguous()
        for name, tensor in tensors
        if (match := ADAPTER.match(name))
    }
    save_file(found, folder / "adapter_model.safetensors")
    settings = _peft_config(config)
    settings.base_model_name_or_path = base
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
