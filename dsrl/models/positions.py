"""LongRoPE (Phi-3.5, Phi-4-mini): make what a model does with positions the same in every forward of a run.

Its models have two sets of factors, and transformers takes those for long sequences wherever the longest sequence of a
forward is past a limit. A token would then be sampled by one set and scored by the other, and what a row scores would
depend on the rows beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dsrl.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

logger = logging.getLogger(__name__)


def longrope_limit(architecture: PreTrainedConfig) -> int | None:
    """Say past how many tokens a model of LongRoPE takes its other factors; None for all other models."""
    parameters = getattr(architecture.get_text_config(), "rope_parameters", None) or {}
    kinds = [parameters, *(kind for kind in parameters.values() if isinstance(kind, Mapping))]
    limits = [int(kind["original_max_position_embeddings"]) for kind in kinds if kind.get("rope_type") == "longrope"]
    return min(limits, default=None)


def fix_positions(model: Any, longest: int) -> None:
    """Let a model of LongRoPE take the same factors for all sequences of up to `longest` tokens, however short.

    Those for long sequences are taken if the longest is past the limit, as vLLM does.

    Raises ConfigError where positions depend on the length of sequences all the same.
    """
    limit = longrope_limit(model.config)
    if limit is None or longest <= limit:
        return
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    for module, layer_type in _rotations(model):
        prefix = "" if layer_type is None else f"{layer_type}_"
        device = getattr(module, f"{prefix}inv_freq").device
        factors, _ = ROPE_INIT_FUNCTIONS["longrope"](module.config, device, seq_len=longest, layer_type=layer_type)
        for name in (f"{prefix}inv_freq", f"{prefix}original_inv_freq"):
            setattr(module, name, factors.clone())
        alone, beside = (_rotation(module, layer_type, positions)[:, :1] for positions in ([1], [1, longest - 1]))
        if not torch.equal(alone, beside):
            raise ConfigError(
                f"{model.config.model_type} turns tokens otherwise in sequences of more than {limit} tokens, and "
                f"responses would be scored by other positions than they were sampled with: lower "
                f"data.max_prompt_tokens + sampling.max_new_tokens to at most {limit}, not {longest}"
            )
    _say(
        f"LongRoPE: sequences may have up to {longest} tokens, more than {limit}, so that all take the factors for "
        f"long ones; with data.max_prompt_tokens + sampling.max_new_tokens of at most {limit} all take those for short "
        "ones"
    )


def _rotations(model: nn.Module) -> Iterator[tuple[Any, str | None]]:
    """Yield the modules that turn tokens by LongRoPE, with the type of layer, where they have several."""
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        for layer_type, kind in kinds.items() if isinstance(kinds, Mapping) else [(None, kinds)]:
            if kind == "longrope":
                yield module, layer_type


def _rotation(module: Any, layer_type: str | None, positions: list[int]) -> Tensor:
    """The cosines of a row with tokens at these positions, [1, tokens, D]."""
    ids = torch.tensor(
        [positions], device=getattr(module, "inv_freq" if layer_type is None else f"{layer_type}_inv_freq").device
    )
    which = {} if layer_type is None else {"layer_type": layer_type}
    found: Tensor = module(torch.zeros(1, device=ids.device), ids, **which)[0]
    return found


@cache
def _say(message: str) -> None:
    """Say it once, however many copies of the model are made."""
    logger.warning(message)
