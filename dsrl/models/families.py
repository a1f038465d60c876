"""What families of models differ in: attention that computes all of them, what text never reaches, what decoding keeps.

All of it is read off the architecture, before any weights are loaded.
"""

from __future__ import annotations

import inspect
import logging
import sys
from functools import cache
from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM, Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import CacheLayerMixin, LinearAttentionCacheLayerMixin

logger = logging.getLogger(__name__)

CACHE_ARGUMENTS = ("past_key_values", "cache_params")
"""What the forward of a model calls its cache; the latter in Mamba's family."""


def attention_of(architecture: PreTrainedConfig, asked: str) -> str:
    """Choose the attention implementation: the one asked for, or `eager` where sdpa would leave something out.

    Some models have no sdpa (GPT-OSS, whose heads have sinks; Mamba). For Gemma-2 transformers offers it, but it does
    not cap the attention scores as the model was trained to.

    Args:
        architecture: configuration of the model.
        asked: `model.attn_implementation`.
    """
    if asked != "sdpa":
        return asked
    kind = _class_of(architecture)
    if kind is not None and not kind._supports_sdpa:
        _say(f"model.attn_implementation=sdpa: {kind.__name__} has none; it runs with eager")
        return "eager"
    if getattr(architecture.get_text_config(), "attn_logit_softcapping", None) is not None:
        _say(
            f"model.attn_implementation=sdpa: it does not cap attention scores, as a model of type "
            f"{architecture.model_type} does; it runs with eager (flex_attention and flash_attention_2 cap them, too)"
        )
        return "eager"
    return asked


def freeze_beside_text(model: Any) -> None:
    """Freeze what text never reaches, such as the vision tower of Gemma-3.

    It gets no gradient, so DDP would wait for one for ever, and weight decay alone would change it.
    """
    kept = reached_by_text(model)
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def reached_by_text(model: Any) -> set[int]:
    """Collect the ids of the parameters that text reaches: all, unless the model reads something else, too."""
    config = getattr(model, "config", None)  # which a plain module has none of
    if config is None or config.get_text_config() is config:
        return {id(parameter) for parameter in model.parameters()}
    reached = [model.get_decoder(), model.get_output_embeddings()]
    return {id(parameter) for module in reached for parameter in module.parameters()}


def keep_weights(model: nn.Module) -> None:
    """Keep a model's weights what they are in evaluation mode, in which RWKV halves those of its later blocks in place.

    That is against overflows in float16, and a copy made meanwhile, for a sampler or a file, would be of other weights.
    """
    for module in model.modules():
        if hasattr(type(module), "_rescale_layers"):
            module._rescale_layers = lambda: None  # type: ignore[assignment]


def keeps_states(architecture: PreTrainedConfig) -> bool:
    """Tell whether some layers keep a state (Mamba, linear attention, convolution) instead of keys and values.

    Padding on the left would be part of the state.
    """
    layers = DynamicCache(config=architecture).layers
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers)


def cannot_decode(architecture: PreTrainedConfig) -> str | None:
    """Say why rows of a batch cannot be decoded with a cache of transformers; None if they can.

    Such models keep their states in their modules (RecurrentGemma), in a form of their own (RWKV, xLSTM), or in a cache
    of their own (MiniMax-01, DeepSeek-V4), whose rows nothing says how to repeat and select.
    """
    kind = _class_of(architecture)
    if kind is None:
        return None
    if cache_argument(kind) is None or (kind._is_stateful and not keeps_states(architecture)):
        return f"{kind.__name__} keeps its states outside of the cache"
    caches = (value for value in vars(sys.modules[kind.__module__]).values() if isinstance(value, type))
    own = any(issubclass(cache, Cache) and cache.__module__ == kind.__module__ for cache in caches)
    layers = DynamicCache(config=architecture).layers
    if own or any(type(layer).__module__ != CacheLayerMixin.__module__ for layer in layers):
        return f"{kind.__name__} has a cache of its own"
    return None


def cache_argument(kind: type[nn.Module]) -> str | None:
    """Name the argument of a model's forward that takes its cache; None if it has none."""
    names = inspect.signature(kind.forward).parameters
    return next((name for name in CACHE_ARGUMENTS if name in names), None)


def _class_of(architecture: PreTrainedConfig) -> Any:
    """The class that `AutoModelForCausalLM` makes; None if it knows none."""
    return AutoModelForCausalLM._model_mapping.get(type(architecture), None)


@cache
def _say(message: str) -> None:
    """Say it once, however many copies of the model are made."""
    logger.warning(message)
