"""Which layers may have adapters: those whose merged weight computes what layer and adapter do together."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from dsrl.config.schema import LoraConfig
from dsrl.errors import ConfigError, nearest
from dsrl.models.families import reached_by_text
from dsrl.models.lora import adapted_layers, adapted_weight, asked_targets, name_without_adapters

PLAIN = (nn.Linear, Conv1D, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers that are linear in their weight, where their forward is their own class's."""


def check_targets(model: nn.Module, config: LoraConfig, settings: Any) -> None:
    """Refuse adapters that are in the model and could not be merged, and targets that it does not have.

    Args:
        model: with adapters.
        config: what is asked for.
        settings: peft's configuration, in which it has put the targets that it found.

    Raises:
        ConfigError: the message names targets and types of layers, and what else may have adapters.
    """
    layers = adapted_layers(model)
    for name in _missing(layers, config, settings):
        known = {part for key, _ in (*model.named_modules(), *model.named_parameters()) for part in key.split(".")}
        raise ConfigError(f"{asked_targets(config)}: the model has no layer {name}.{nearest(name, known)}")
    refused: dict[str, str] = {}  # why, by name and type
    mergeable: set[str] = set()
    reached = reached_by_text(model)
    for name, layer in layers.items():
        if id(model.get_parameter(adapted_weight(name, layer))) not in reached:
            continue  # its adapter is frozen, and changes nothing
        if problem := why_not_merged(model, name, layer):
            kind = type(layer.get_base_layer()).__name__
            refused.setdefault(f"{name.rpartition('.')[2]} ({kind})", problem)
        elif not hasattr(layer, "parameter_name"):
            mergeable.add(name.rpartition(".")[2])
    if refused:
        told = "; ".join(f"{target} {problem}" for target, problem in refused.items())
        instead = sorted(mergeable - {target.partition(" ")[0] for target in refused})
        others = f"; the others can have them: model.lora.target_modules=[{','.join(instead)}]" if instead else ""
        raise ConfigError(f"{asked_targets(config)}: no adapters for {told}{others}")


def check_fsdp1(model: nn.Module) -> None:
    """Raise ConfigError for adapters of parameters: peft puts other tensors in the place of FSDP1's views of them."""
    for name, layer in adapted_layers(model).items():
        if hasattr(layer, "parameter_name"):
            weight = name_without_adapters(adapted_weight(name, layer))
            raise ConfigError(
                f"trainer=fsdp1: no adapter for {weight}, which is a parameter and no layer; trainer=fsdp can train "
                "it, and model.lora.target_modules can leave it out"
            )


def why_not_merged(model: nn.Module, name: str, layer: Any) -> str | None:
    """Say why a layer's adapter could not be merged into its weight; None if it can.

    Args:
        model: with adapters.
        name: of the layer in it.
        layer: of peft.
    """
    weight, base = adapted_weight(name, layer), layer.get_base_layer()
    if others := _other_names(model, weight):
        return f"which shares its weight with {others[0]}: merged, they would be two (tie_word_embeddings is true)"
    parameter = weight.rpartition(".")[2]
    if not hasattr(layer, "parameter_name"):
        if not isinstance(base, PLAIN):
            return "whose type is not known to be linear in its weight"
        if not _is_plain(base):
            return "which does something of its own with its weight"
        if getattr(base, "groups", 1) > 1:
            return "which is a convolution in groups, whose adapters peft cannot merge"
    owner, _, attribute = name.rpartition(".")
    parent = model.get_submodule(owner)
    if not hasattr(parent, "base_layer") and _reads(type(parent), attribute, parameter):
        return f"whose {parameter} {type(parent).__name__} also reads without calling it"
    return None


def _missing(layers: dict[str, Any], config: LoraConfig, settings: Any) -> Iterator[str]:
    """Find the names that are asked for and no layer has. Peft asks for parameters where layers became such."""
    parameters = [name_without_adapters(adapted_weight(name, layer)) for name, layer in layers.items()]
    asked = [] if isinstance(config.target_modules, str) else [*config.target_modules]
    if {*(settings.target_parameters or ())} != {*(config.target_parameters or ())}:
        asked = [name for name in asked if name in settings.target_modules]
    for names, found in ((asked, layers), (config.target_parameters or (), parameters)):
        for name in names:
            if not any(key == name or key.endswith(f".{name}") for key in found):
                yield str(name)


def _other_names(model: nn.Module, weight: str) -> list[str]:
    """List the other names of a parameter, without what adapters add to them."""
    own = model.get_parameter(weight)
    names = (name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is own)
    return [name_without_adapters(name) for name in names if name != weight]


def _is_plain(base: nn.Module) -> bool:
    """Tell whether a layer computes what its class of torch does, but for the scale of embeddings, which peft knows.

    One with a forward of its own, such as Falcon's, is tried.
    """
    kind = next(kind for kind in PLAIN if isinstance(base, kind))
    if type(base).forward is kind.forward or (kind is nn.Embedding and hasattr(base, "embed_scale")):
        return True
    if kind is not nn.Linear:
        return False
    generator = torch.Generator().manual_seed(0)
    given = {name: torch.randn(part.shape, generator=generator) for name, part in base.named_parameters()}
    inputs = torch.randn(1, given["weight"].shape[1], generator=generator)
    try:
        found = functional_call(base, given, (inputs,))
        expected = F.linear(inputs, given["weight"], given.get("bias"))
        return bool(torch.allclose(found, expected, atol=1e-3, rtol=1e-3))
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return False


def _reads(parent: type[nn.Module], attribute: str, parameter: str) -> bool:
    """Tell whether a module's code reads a parameter of its layer beside calling the layer, as for a fused kernel."""
    try:
        source = inspect.getsource(parent)
    except (OSError, TypeError):  # code that is in no file
        return False
    # Slices are those of a parallelism of Bloom's (pretraining_tp) that is off where nobody asks for it.
    about = r"(?!\s*=[^=]|\.(?:dtype|device|shape|size|ndim|data)\b|\[[^\]]*slices|\w)"
    return re.search(rf"self\.{re.escape(attribute)}\.{re.escape(parameter)}{about}", source) is not None
