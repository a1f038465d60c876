"""Adapters: LoRA (arXiv 2106.09685) through peft, small trainable matrices beside frozen weights.

Peft merges what peft adapts: the change of a weight is what its own layer says. What cannot be merged is refused before
anything is trained (`dsrl.models.lora_targets`).
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call

from dsrl.config.schema import LoraConfig, ModelConfig
from dsrl.errors import ConfigError, install_extra
from dsrl.parallel.plain_names import plain_name
from dsrl.seeding import derive_seed

ADAPTER = re.compile(
    r"^(?P<layer>.+)\.(?P<part>lora_(?P<embedding>embedding_)?(?P<which>[AB]))\.default(?P<rest>\.weight)?$"
)
"""The name of an adapter's parameter, with its layer and which of the two matrices it is; an embedding's is no module's
weight."""


def missing_peft(config: LoraConfig) -> str | None:
    """Say why LoRA cannot be used; None if it can, or is not asked for."""
    if config.rank and importlib.util.find_spec("peft") is None:
        return f"model.lora.rank={config.rank} needs peft: {install_extra('lora')}"
    return None


def add_adapters(model: nn.Module, config: LoraConfig) -> None:
    """Put adapters into the model, in place, and freeze all else. `initialize_adapters` gives them values.

    Raises ConfigError, which names target and layer type, where a target is not there or could not be merged.
    """
    from peft import inject_adapter_in_model

    from dsrl.models.lora_targets import check_targets

    settings = _peft_config(config)
    try:
        with warnings.catch_warnings():
            # What peft warns of is refused below, or what it has seen to itself.
            warnings.filterwarnings("ignore", module="peft")
            inject_adapter_in_model(settings, model)
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{asked_targets(config)}: peft cannot adapt them: {reason}") from error
    check_targets(model, config, settings)


def asked_targets(config: LoraConfig) -> str:
    """Write the targets that are asked for as they stand in the configuration."""
    modules = config.target_modules if isinstance(config.target_modules, str) else [*config.target_modules]
    written = f"model.lora.target_modules={modules}".replace("'", "")
    if config.target_parameters:
        written += f" model.lora.target_parameters={[*config.target_parameters]}".replace("'", "")
    return written


@torch.no_grad()
def initialize_adapters(model: nn.Module) -> None:
    """Set one matrix at random and the other to 0, as peft does, so that the model computes what it did before.

    A random value depends on the adapter's name alone, so every rank has the same.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    for name, parameter in model.named_parameters():
        if match := ADAPTER.match(name):
            values = torch.zeros(parameter.shape)
            generator = torch.Generator().manual_seed(derive_seed("lora", name))
            if match["embedding"] and match["which"] == "B":
                values.normal_(generator=generator)
            elif not match["embedding"] and match["which"] == "A":  # uniform within 1 / sqrt(fan in)
                values.uniform_(-1, 1, generator=generator)
                values /= (parameter.numel() / parameter.shape[0]) ** 0.5
            if isinstance(parameter, DTensor):
                mesh, placements = parameter.device_mesh, parameter.placements
                values = distribute_tensor(values.to(parameter.device), mesh, placements)
            parameter.copy_(values)


def has_adapters(model: nn.Module) -> bool:
    """Tell whether adapters are beside the model's weights."""
    return any(ADAPTER.match(name) for name, _ in model.named_parameters())


def name_without_adapters(name: str) -> str:
    """Give a weight's name in the model without adapters, in which no layer is within another."""
    return re.sub(r"\.base_layer(?=\.)", "", name)


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """Find the layers of peft by their names; those of parameters of one module are within each other."""
    if importlib.util.find_spec("peft") is None:
        return {}
    from peft.tuners.lora import LoraLayer

    return {plain_name(name): module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def adapted_weight(name: str, layer: Any) -> str:
    """Name the parameter that a layer of peft adapts, as it is called in the model with adapters."""
    inner, place = layer.base_layer, f"{name}.base_layer"
    while hasattr(inner, "base_layer"):
        inner, place = inner.base_layer, f"{place}.base_layer"
    return f"{place}.{getattr(layer, 'parameter_name', 'weight')}"


def merge_adapters(model: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Merge adapters into the weights that they adapt, one at a time, in at least float32.

    Takes the model's full parameters by name, and yields those of the model without adapters by theirs.
    """
    waiting: dict[str, _Waiting] = {}
    for name, layer in adapted_layers(model).items():
        weight = adapted_weight(name, layer)
        parts = {f"{name}.{own}": own for own, _ in layer.named_parameters() if own.startswith("lora_")}
        waiting |= dict.fromkeys([weight, *parts], _Waiting(name=name, layer=layer, weight=weight, parts=parts))
    for name, tensor in tensors:
        if (adapted := waiting.get(name)) is None:
            yield name_without_adapters(name), tensor
        elif (merged := adapted.take(name, tensor)) is not None:
            yield name_without_adapters(adapted.weight), merged


@dataclass(kw_only=True)
class _Waiting:
    """An adapted weight that waits for its adapter's matrices: its layer, its name, and the names that matrices have in
    the model and in the layer."""

    name: str
    layer: Any
    weight: str
    parts: dict[str, str]
    found: dict[str, Tensor] = field(default_factory=dict)

    def take(self, name: str, tensor: Tensor) -> Tensor | None:
        """Take the weight or a matrix. Return the merged weight with the last of them."""
        self.found[name] = tensor
        if len(self.found) <= len(self.parts):
            return None
        dtype = self.found[self.weight].dtype
        compute = torch.promote_types(dtype, torch.float32)
        full = {f"layer.{own}": self.found[name].to(compute) for name, own in self.parts.items()}
        weight = self.found[self.weight].to(compute)
        full[f"layer.{self.weight.removeprefix(f'{self.name}.')}"] = weight  # whose type and shape the layer asks for
        merged: Tensor = weight + functional_call(_Change(self.layer), full, ())
        self.found.clear()
        return merged.to(dtype)


class _Change(nn.Module):
    """A layer of peft whose forward gives the change of its weight, since functional_call replaces what that reads."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        change: Tensor = self.layer.get_delta_weight("default")
        return change


def write_adapter(folder: Path, model: ModelConfig, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write the adapters into a folder that `PeftModel.from_pretrained` reads.

    Args:
        folder: an existing folder.
        model: what they were trained on, and their settings.
        tensors: the model's full parameters by name; those that are no adapter's are left out.
    """
    found = {
        f"base_model.model.{match['layer']}.{match['part']}{match['rest'] or ''}": tensor.contiguous()
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
        target_parameters=config.target_parameters and [*config.target_parameters],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
