"""Find a model's architecture without its weights."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from dsrl.config.schema import ModelConfig
from dsrl.errors import ConfigError, nearest
from dsrl.models.loading import load_architecture
from dsrl.models.rows import RowCost, share_of_experts
from dsrl.models.sharded_loading import model_of_architecture

BUILT_IN = Path(__file__).parent / "architectures.json"
"""Arguments of the usual models' configurations, by their names on the hub."""

VARIANT = re.compile(r"(-Base|-Instruct|-Thinking|-it|-pt)?(-2507)?$")
"""The end of a name that says how a model was trained, and nothing of its shapes."""


def architecture_of(model: ModelConfig) -> PreTrainedConfig:
    """Find the configuration of a model's architecture.

    It is the built-in one of a usual model, else the folder's config.json, else that on the hub. Raises ConfigError
    where there is none.
    """
    known: dict[str, dict[str, Any]] = json.loads(BUILT_IN.read_text())
    # The package's file would be read for seconds.
    name = "HuggingFaceTB/SmolLM2-135M" if model.name == "smollm2" else VARIANT.sub("", model.name)
    if name in known and not Path(model.name).expanduser().is_dir():
        made: PreTrainedConfig = AutoConfig.for_model(**known[name])
        if model.name.endswith("-2507"):
            made.max_position_embeddings = 262_144
        return made
    try:
        return load_architecture(model)
    except ConfigError as error:
        owners = ", ".join(dict.fromkeys(name.partition("/")[0] for name in known))
        raise ConfigError(
            f"{error}\n  without its weights are known: a folder with a config.json, and {len(known)} models of "
            f"{owners}.{nearest(name, known)}"
        ) from error


def shaped_model(architecture: PreTrainedConfig, model: ModelConfig) -> PreTrainedModel:
    """Build the model as a run would have it, on the meta device.

    Attention kernels of other packages than torch need a GPU; torch's, which holds as much memory, stands in for them.
    """
    if model.attn_implementation not in ("sdpa", "eager"):
        model = replace(model, attn_implementation="sdpa")
    return model_of_architecture(architecture, model)


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """The sizes of a model that plans are made of.

    Args:
        parameters: their number.
        trained: those that are trained.
        products: those of matrices that each token is multiplied with, without the head.
        trained_products: those of `products` that are trained.
        vocabulary: V.
        hidden: width of a hidden state.
        layers: transformer blocks.
        heads: of attention, in each layer.
        key_heads: of keys and values, in each layer.
        head_size: numbers of a head.
        intermediate: the widest side of a matrix of the blocks, of the feed-forward layers as a rule.
        largest: elements of the largest parameter.
        cost: of a row in a forward, as a run deals rows out by it.
    """

    parameters: int
    trained: int
    products: int
    trained_products: int
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    head_size: int
    intermediate: int
    largest: int
    cost: RowCost

    @classmethod
    def of(cls, architecture: PreTrainedConfig, model: ModelConfig) -> Shapes:
        """Read the shapes off the model itself, built without memory."""
        made, text = shaped_model(architecture, model), architecture.get_text_config()
        head, inputs = made.get_output_embeddings(), made.get_input_embeddings()  # type: ignore[no-untyped-call]
        outside = {id(module.weight) for module in (head, inputs) if module is not None}
        active = share_of_experts(text)
        products = trained_products = 0.0
        for parameter in made.parameters():
            if parameter.ndim >= 2 and id(parameter) not in outside:
                used = parameter.numel() * (active if parameter.ndim == 3 else 1.0)  # experts of one layer are stacked
                products += used
                trained_products += used * parameter.requires_grad
        heads = getattr(text, "num_attention_heads", None) or 1  # a model without attention is taken to have one
        parameters = sum(parameter.numel() for parameter in made.parameters())
        inside = [parameter for parameter in made.parameters() if id(parameter) not in outside]
        return cls(
            parameters=parameters,
            trained=sum(parameter.numel() for parameter in made.parameters() if parameter.requires_grad),
            products=round(products),
            trained_products=round(trained_products),
            vocabulary=text.vocab_size,
            hidden=text.hidden_size,
            layers=text.num_hidden_layers,
            heads=heads,
            key_heads=getattr(text, "num_key_value_heads", None) or heads,
            head_size=getattr(text, "head_dim", None) or text.hidden_size // heads,
            intermediate=max((max(p.shape[-2:]) for p in inside if p.ndim >= 2), default=text.hidden_size),
            largest=max(parameter.numel() for parameter in made.parameters()),
            cost=RowCost.of_model(made, parameters),
        )
